"""One run at a time writes into a table: refused while another lives, taken over from the dead."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from threading import Barrier, Event
from threading import enumerate as enumerate_threads
from typing import Any

import pytest
from processes import ROOT, wait_for

from pneumospark.errors import LockError
from pneumospark.io import lock
from pneumospark.io.files import Store
from pneumospark.io.lock import locked

STORE = Store()
ELSEWHERE = {"host": "node7", "machine": "another machine", "pid": 4711, "job": "score", "since": "last night"}


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("HEARTBEAT", 0.1), ("LEASE", 1.5), ("WATCH", 0.25), ("PAUSE", 0.3)):
        monkeypatch.setattr(lock, name, seconds)


@pytest.fixture
def table(tmp_path: Path) -> str:
    return f"file://{tmp_path}/t"


def hold(table: str, job: str = "ingest", stop: Any = print) -> Any:
    return locked(table, STORE, job, stop)


def files(table: str) -> list[Path]:
    return list(Path(table.removeprefix("file://"), "_lock").glob("*.json"))


def leave(table: str, **info: Any) -> None:
    """A lock as a run on another machine would leave it."""
    lock._write(f"{table}/_lock", "20260101T000000000000-abcd.json", ELSEWHERE | info, STORE)


def test_a_second_run_is_refused_and_told_who_holds_the_table(table: str) -> None:
    with hold(table, "score"):
        expected = rf"{table}: score on {os.uname().nodename}, process {os.getpid()}, writes into it since 20"
        with pytest.raises(LockError, match=expected), hold(table):
            pytest.fail("two runs at once")
        with hold(f"{table}2"):  # another table is free
            pass
    assert files(table) == []
    with hold(table):
        assert len(files(table)) == 1


def test_a_run_that_fails_gives_the_lock_back(table: str) -> None:
    with pytest.raises(KeyError), hold(table):
        raise KeyError
    assert files(table) == []


@pytest.fixture
def other(table: str, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that holds the lock until it is killed, and is not waited for: it stays as a zombie."""
    code = f"""
import time
from pneumospark.io.files import Store
from pneumospark.io.lock import locked
with locked({table!r}, Store(), "ingest", print):
    open({str(tmp_path / "ready")!r}, "w").close()
    time.sleep(600)
"""
    process = subprocess.Popen([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(ROOT)})
    try:
        wait_for((tmp_path / "ready").exists)
        yield process
    finally:
        process.kill()
        process.wait()


def test_a_killed_process_of_this_machine_does_not_keep_it(table: str, other: subprocess.Popen[bytes]) -> None:
    with pytest.raises(LockError, match=f"process {other.pid}, "), hold(table):
        pass
    other.kill()
    wait_for(lambda: Path(f"/proc/{other.pid}/stat").read_text().split()[2] == "Z")
    with hold(table):
        assert len(files(table)) == 1


def test_a_live_run_elsewhere_is_refused_whatever_its_clock_says(table: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its clock is an hour off; it renews all the same."""
    with ThreadPoolExecutor(1) as thread, ExitStack() as alive:
        monkeypatch.setattr(lock, "_now", lambda: "2020-01-01T00:00:00+00:00")
        leave(table)
        running = [True]
        alive.callback(running.clear)

        def renew() -> None:
            while running:
                leave(table)
                time.sleep(0.05)

        thread.submit(renew)
        with (
            pytest.raises(LockError, match="score on node7, process 4711, writes into it since last n"),
            hold(table),
        ):
            pass


@pytest.mark.parametrize("content", [None, b"", b"[1", b"[]"], ids=["old", "empty", "cut", "other"])
def test_a_dead_run_elsewhere_is_taken_over_after_its_lease(table: str, content: bytes | None) -> None:
    leave(table)
    (left,) = files(table)
    if content is not None:
        left.write_bytes(content)
    else:
        with pytest.raises(LockError, match="score on node7"), hold(table):
            pass
        time.sleep(lock.LEASE + 1.1)  # times are in whole seconds
    with hold(table):
        assert not left.exists()


def test_of_many_that_start_at_once_one_has_it(table: str) -> None:
    ready, held, most = Barrier(8), [0], [0]

    def run(_: int) -> bool:
        ready.wait()
        try:
            with hold(table):
                held[0] += 1
                most[0] = max(most[0], held[0])
                time.sleep(1.0)
                held[0] -= 1
        except LockError:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        got = list(threads.map(run, range(8)))
    assert most == [1] and sum(got) >= 1  # one that came late may have had it afterwards


def test_a_run_that_lost_its_lock_stops_and_says_so(table: str) -> None:
    stopped: list[bool] = []
    with pytest.raises(LockError, match="could not renew its lock"), hold(table, stop=lambda: stopped.append(True)):
        files(table)[0].unlink()  # as another run does that took this one for dead
        wait_for(lambda: stopped)
    assert files(table) == []


def test_the_lock_is_renewed(table: str) -> None:
    with hold(table):
        before = files(table)[0].read_bytes()
        wait_for(lambda: files(table)[0].read_bytes() not in (before, b""))


def test_a_renewal_that_hangs_is_waited_for(table: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or it would write the lock again after it was taken away, or be in a driver's call when Python ends."""
    put, begun = Store.put, Event()

    def hang(store: Store, uri: str, content: bytes) -> None:
        begun.set()
        time.sleep(1.0)
        put(store, uri, content)

    with hold(table):
        monkeypatch.setattr(Store, "put", hang)
        assert begun.wait(10)
    assert files(table) == []
    assert not [thread.name for thread in enumerate_threads() if thread.name.startswith("lock of")]


def test_a_renewal_that_took_longer_than_others_wait_ends_the_run(table: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Meanwhile a run elsewhere has taken the lock; written late, it would let both run."""
    write, slow, stopped = lock._write, Event(), Event()

    def late(folder: str, token: str, info: dict[str, Any], store: Store) -> None:
        if slow.is_set() and "nobody" not in info:
            (mine,) = files(table)
            mine.unlink()
            write(folder, "21000101T000000000000-new.json", ELSEWHERE | {"nobody": True}, store)
            time.sleep(lock.LEASE + 0.2)
        write(folder, token, info, store)

    monkeypatch.setattr(lock, "_write", late)
    with pytest.raises(LockError, match="could not renew its lock"), hold(table, stop=stopped.set):
        slow.set()
        assert stopped.wait(10)
    assert [path.name for path in files(table)] == ["21000101T000000000000-new.json"]


def test_another_users_process_that_proc_does_not_show_is_there(table: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under hidepid=2; a mock, since to mount /proc so needs root, and another user."""
    here, read_text = lock._here(), Path.read_text

    def not_mine(pid: int, signal: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", not_mine)
    assert not lock._is_gone(here) and lock._is_gone(here | {"started": here["started"] - 1})
    for hidden in (FileNotFoundError, PermissionError):

        def shown(path: Path, hidden: type[OSError] = hidden) -> str:
            if path.name == "stat":
                raise hidden
            return read_text(path)

        monkeypatch.setattr(Path, "read_text", shown)
        assert not lock._is_gone(here)


def test_a_process_is_told_by_when_it_began_in_ticks(table: str) -> None:
    here = lock._here()
    assert not lock._is_gone(here) and lock._is_gone(here | {"started": here["started"] - 1})
    assert not lock._is_gone(here | {"machine": "another", "started": 1}) and lock._is_gone(here | {"pid": 2**22 + 1})
