"""Files of a remote store are read before their turn, while a task decodes others; those of a disk are not."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

Row = dict[str, Any]
Read = Callable[[str], bytes]

READERS = 4
"""Files that a Python worker reads at once."""

AHEAD_BYTES = 64 * 2**20
"""Bytes of files, as listed, that wait for their turn at most; one larger than that is read when its turn comes."""

CONTENT = "content ahead"
"""In a row: a future of the file's bytes."""


def read_ahead(files: Iterable[Row], read: Read) -> Iterator[Row]:
    """`files`, with `path` and `length`, in their order, those of a remote store with CONTENT, for `content_of`.

    A file that cannot be read raises where `content_of` asks for it, and no other does.
    """
    waiting, size = deque[Row](), 0
    for file in files:
        if file["path"].startswith("file://"):
            yield file  # a disk's own cache is faster than a thread
            continue
        if file["length"] > AHEAD_BYTES:
            yield from waiting
            waiting, size = deque[Row](), 0
            yield file
            continue
        waiting.append(file | {CONTENT: _readers().submit(read, file["path"])})
        size += file["length"]
        while waiting and (len(waiting) > READERS or size > AHEAD_BYTES):
            ready = waiting.popleft()
            size -= ready["length"]
            yield ready
    while waiting:
        yield waiting.popleft()


def content_of(file: Row, read: Read) -> bytes:
    """The bytes of a file, read ahead or now; raises what `read` raises."""
    content: bytes = file[CONTENT].result() if CONTENT in file else read(file["path"])
    return content


@lru_cache(maxsize=1)  # kept from task to task: fsspec makes a client of its own for every thread that asks
def _readers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(READERS, "read ahead")
