"""Files of a remote store are read before their turn: several at once, in their order, within bounds."""

from threading import Barrier, Event, Lock, get_ident

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pneumospark.errors import DecodeError
from pneumospark.tables import ahead
from pneumospark.tables.ahead import content_of, read_ahead


def rows(*lengths: int, root: str = "s3a://xray") -> list[ahead.Row]:
    return [{"path": f"{root}/{number}", "length": length, "label": "x"} for number, length in enumerate(lengths)]


def bytes_of(path: str) -> bytes:
    return path.encode()


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 2 * ahead.AHEAD_BYTES), max_size=20), st.sampled_from(["s3a://b", "file:///t"]))
def test_every_file_comes_in_its_turn_with_its_bytes(lengths: list[int], root: str) -> None:
    files = rows(*lengths, root=root)
    found = list(read_ahead(files, bytes_of))
    assert [{name: row[name] for name in files[0]} for row in found] == files
    assert [content_of(row, bytes_of) for row in found] == [file["path"].encode() for file in files]


def test_several_files_are_read_at_once() -> None:
    together = Barrier(ahead.READERS, timeout=30)

    def read(path: str) -> bytes:
        together.wait()  # breaks where fewer read at once
        return path.encode()

    assert len([content_of(row, read) for row in read_ahead(rows(*[1] * 4 * ahead.READERS), read)]) == 16


def test_files_of_a_disk_are_read_by_the_task_itself() -> None:
    found = [content_of(row, lambda _: b"%d" % get_ident()) for row in read_ahead(rows(1, 1, root="file:///t"), int)]
    assert found == [b"%d" % get_ident()] * 2


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(1, ahead.AHEAD_BYTES), min_size=1, max_size=20))
def test_what_waits_is_bounded_by_bytes(lengths: list[int]) -> None:
    sizes, lock, held, most = {row["path"]: row["length"] for row in rows(*lengths)}, Lock(), [0], [0]

    def read(path: str) -> bytes:
        with lock:
            held[0] += sizes[path]
            most[0] = max(most[0], held[0])
        return path.encode()

    for row in read_ahead(rows(*lengths), read):
        content_of(row, read)
        with lock:
            held[0] -= row["length"]
    assert most[0] <= ahead.AHEAD_BYTES + max(lengths)


def test_a_file_that_cannot_be_read_fails_alone_and_in_its_turn() -> None:
    later = Event()

    def read(path: str) -> bytes:
        if path.endswith("/1"):
            raise DecodeError("unreadable", path)
        if path.endswith("/2"):
            later.set()
        return path.encode()

    first, second, third = read_ahead(rows(1, 1, 1), read)
    assert later.wait(30)  # what comes after it is read all the same
    assert content_of(first, read) == b"s3a://xray/0"
    with pytest.raises(DecodeError, match="s3a://xray/1"):
        content_of(second, read)
    assert content_of(third, read) == b"s3a://xray/2"


def test_a_file_that_is_too_large_to_wait_is_not_read_ahead() -> None:
    asked: list[str] = []
    found = list(read_ahead(rows(1, ahead.AHEAD_BYTES + 1, 1), lambda path: asked.append(path) or b""))
    assert [row["path"] for row in found if ahead.CONTENT not in row] == ["s3a://xray/1"]
    assert [content_of(row, bytes_of) for row in found] == [b"", b"s3a://xray/1", b""]
    assert sorted(asked) == ["s3a://xray/0", "s3a://xray/2"]
