"""Copies of a table's files on a local disk, within a limit, so that only the first epoch reads from the store."""

import hashlib
import os
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO
from uuid import uuid4

import pyarrow as pa

ONE_AT_A_TIME = threading.Lock()
"""Petastorm reads footers in ten threads."""

PART = ".part"
ABANDONED = 3600.0
"""Seconds without a further byte after which a part is one that a killed process left."""


@dataclass
class Copies:
    """A folder of copies, of at most `limit` bytes together; several processes of a machine may share it.

    A file of a table never changes, and its name is never used twice, so a copy is good for ever: its name is a
    hash of what tells the file from others. What was not read for longest goes first. A file for which there is no
    room without another of this very table is left where it is, and read from there each time: with the usual rule,
    files that are read in turn and do not all fit would push each other out, and none be there when it is asked for.
    """

    folder: Path
    limit: int
    mine: set[str] = field(default_factory=set, repr=False)

    def open(self, identity: str, size: int, original: Callable[[], IO[bytes]]) -> pa.NativeFile | None:
        """The copy of the file of `identity`, opened to read; it is made first; None where `size` bytes find no room.

        Raises what the store raises where the `original` cannot be read.
        """
        local = self.folder / hashlib.sha256(identity.encode()).hexdigest()
        with ONE_AT_A_TIME:
            self.mine.add(local.name)
            while True:
                with suppress(FileNotFoundError):  # another process may take it away right before it is opened
                    copy = pa.OSFile(str(local))
                    os.utime(local)
                    return copy
                if not self._make_room(size):
                    return None
                _fetch(original, local)

    def _make_room(self, size: int) -> bool:
        self.folder.mkdir(parents=True, exist_ok=True)
        found = []
        for path in self.folder.iterdir():
            with suppress(FileNotFoundError):
                found.append((path.stat().st_mtime, path.stat().st_size, path))
        others = sorted(
            entry for entry in found if entry[2].name not in self.mine and not _is_arriving(entry[2], entry[0])
        )
        room = self.limit - sum(length for _, length, _ in found)
        if size > room + sum(length for _, length, _ in others):
            return False
        while size > room:
            _, length, path = others.pop(0)
            path.unlink(missing_ok=True)
            room += length
        return True


def _is_arriving(path: Path, modified: float) -> bool:
    """Whether another process is fetching it; one that was killed left its part behind."""
    return path.suffix == PART and time.time() - modified < ABANDONED


def _fetch(original: Callable[[], IO[bytes]], local: Path) -> None:
    part = local.with_name(f"{uuid4().hex}{PART}")
    try:
        with original() as source, part.open("wb") as target:
            shutil.copyfileobj(source, target, 2**23)
        part.replace(local)
    finally:
        part.unlink(missing_ok=True)
