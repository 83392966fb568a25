"""One run at a time writes into a table: a small file in the table's `_lock/` that its writer keeps renewing.

A run writes a file of its own, and only then looks for others. Of two that start together one at least sees the other
and withdraws, on any store that lists what was just written (local disks, HDFS, S3 since December 2020): no exclusive
creation is needed, and no run ever deletes or overwrites the file of a run that lives.
"""

import json
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from threading import Event, Thread
from typing import Any

from pneumospark.errors import LockError, SourceError
from pneumospark.io.drivers import FAILURES
from pneumospark.io.files import Store

FOLDER = "_lock"
HEARTBEAT = 15.0
"""Seconds between renewals."""

LEASE = 8 * HEARTBEAT
"""Seconds without a renewal after which a run on another machine is suspected to be dead."""

WATCH = 2.5 * HEARTBEAT
"""Seconds for which a suspect is watched, since the clocks of two machines may differ by more than LEASE."""

RENEWAL = 300.0
"""Seconds after which a renewal is given up: to write to an HDFS with a dead DataNode takes up to 260."""

HIDDEN = -1
"""Of a process whose start /proc does not show."""

ATTEMPTS, PAUSE = 3, 1.0
"""How often, and with how many seconds between, the first of several that started together looks again."""


@contextmanager
def locked(uri: str, store: Store, job: str, stop: Callable[[], object]) -> Iterator[None]:
    """Hold the lock of a table inside the block.

    Raises LockError, naming host, process and time, where another run has it; and after the block, having called `stop`
    inside it, where this run could not renew it and another one has taken it.
    """
    folder, ended, lost = f"{uri.rstrip('/')}/{FOLDER}", Event(), Event()
    token = f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{secrets.token_hex(4)}.json"
    mine = {"job": job, **_here(), "since": _now()}
    _acquire(folder, token, mine, uri, store)

    def renew() -> None:
        renewed = time.monotonic()
        while not ended.wait(HEARTBEAT):
            with suppress(SourceError):  # a store that fails for a while: LEASE is longer
                began = time.monotonic()
                alive = began - renewed <= LEASE and store.exists(f"{folder}/{token}")
                if alive:
                    _write(folder, token, mine, store)
                    # A write that took longer than others wait may have put back a lock that they had taken away.
                    alive = time.monotonic() - renewed <= LEASE or not _others(folder, token, store)
                if not alive:
                    lost.set()
                    stop()
                    return
                renewed = began

    heart = Thread(target=renew, name=f"lock of {uri}", daemon=True)
    heart.start()
    try:
        yield
    finally:
        ended.set()
        # A renewal that outlived this would put the lock back; and where Python ends while a driver in Rust or C++ is
        # inside a call, that one aborts the process: a good run with exit code 134.
        heart.join(RENEWAL)
        _remove(f"{folder}/{token}", store)
        if lost.is_set():
            raise LockError(f"{uri}: this run could not renew its lock, so another one may have taken it: run again")


def _acquire(folder: str, token: str, mine: dict[str, Any], uri: str, store: Store) -> None:
    _write(folder, token, mine, store)
    try:
        for attempt in range(ATTEMPTS):
            others = [other for other in _others(folder, token, store) if not _is_dead(f"{folder}/{other}", store)]
            if not others:
                return
            if min(others) < token or attempt + 1 == ATTEMPTS:
                break
            time.sleep(PAUSE)  # those that came later withdraw, as soon as they look
        holder = _parsed(_read(f"{folder}/{min(others)}", store))
        raise LockError(
            f"{uri}: {holder.get('job', 'a run')} on {holder.get('host', 'an unknown host')}, "
            f"process {holder.get('pid', 'unknown')}, writes into it since {holder.get('since', 'an unknown time')} "
            f"(renewed {holder.get('renewed', 'at an unknown time')}); one run at a time: wait for it or end it"
        )
    except BaseException:
        _remove(f"{folder}/{token}", store)
        raise


def _is_dead(path: str, store: Store) -> bool:
    """Whether a lock's run is gone; its file is then removed. At once on the same machine, elsewhere after WATCH."""
    before = _read(path, store)
    if before is None:
        return True
    info = _parsed(before)
    if _is_gone(info):
        _remove(path, store)
        return True
    age = time.time() - datetime.fromisoformat(info.get("renewed", "1970-01-01T00:00:00+00:00")).timestamp()
    if abs(age) <= LEASE or info.get("machine") == _here()["machine"]:
        return False
    time.sleep(WATCH)
    if _read(path, store) != before:
        return _read(path, store) is None
    _remove(path, store)
    return True


def _is_gone(info: dict[str, Any]) -> bool:
    """Whether the process is known to have ended: of this machine, and not there, a zombie, or a younger namesake."""
    here = _here()
    if info.get("machine") != here["machine"]:
        return False
    if "started" not in info:
        return False
    try:
        os.kill(info["pid"], 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # another user's, whom a hardened machine does not show in /proc: it is there all the same
        return _started(info["pid"]) not in (HIDDEN, info["started"])
    return bool(_started(info["pid"]) != info["started"])


def _here() -> dict[str, Any]:
    """This process, so that others can tell whether it lives; a container has process numbers of its own."""
    machine = f"{os.uname().nodename} {_boot_id()} {Path('/proc/self/ns/pid').readlink()}"
    return {"host": os.uname().nodename, "pid": os.getpid(), "started": _started(os.getpid()), "machine": machine}


def _started(pid: int) -> int | None:
    """Clock ticks between the machine's start and that of a process; None for a zombie, HIDDEN where nothing is shown.

    Not the time of day, as psutil has it: that moves where the machine's clock is set.
    """
    try:
        facts = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()  # from field 3 on, see proc(5)
    except (FileNotFoundError, ProcessLookupError, PermissionError):  # the last one: as /proc is mounted
        return HIDDEN
    return None if facts[0] == "Z" else int(facts[19])


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _others(folder: str, token: str, store: Store) -> list[str]:
    names = [entry.path.rpartition("/")[2] for entry in store.list_folder(folder) if not entry.is_folder]
    return [name for name in names if name.endswith(".json") and name != token]


def _write(folder: str, token: str, info: dict[str, Any], store: Store) -> None:
    store.put(f"{folder}/{token}", json.dumps(info | {"renewed": _now(), "nonce": secrets.token_hex(4)}).encode())


def _read(path: str, store: Store) -> bytes | None:
    """The bytes of a lock, None where it is gone. Stores may show a file that is being renewed as empty."""
    try:
        return store.fetch(path)
    except FileNotFoundError:
        return None
    except FAILURES as error:
        raise SourceError(f"{path}: cannot be read: {error}") from error


def _parsed(content: bytes | None) -> dict[str, Any]:
    try:
        found = json.loads(content or b"{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _remove(path: str, store: Store) -> None:
    with suppress(*FAILURES, SourceError):  # it expires by itself
        store.remove(path)
