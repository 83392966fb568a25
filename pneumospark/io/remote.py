"""Stores as Petastorm reads them: disks and fsspec behind the interface that pyarrow had for file systems up to 14."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
from pyarrow.filesystem import DaskFileSystem, LocalFileSystem

from pneumospark.io.copies import Copies
from pneumospark.io.files import modified


class Disk(LocalFileSystem):  # type: ignore[misc]
    """Local files, which Arrow reads itself: through Python's it makes a `bytes` of each row group, in new memory."""

    def open(self, path: str, mode: str = "rb") -> pa.NativeFile:
        """The file."""
        return pa.OSFile(path, mode)


class Remote(DaskFileSystem):  # type: ignore[misc]
    """An fsspec file system as pyarrow's legacy readers want it; it lists each folder once, since tables grow only."""

    def __init__(self, filesystem: Any, copies: Copies | None) -> None:
        super().__init__(filesystem)
        self.kind, self.copies = type(filesystem).__name__, copies
        self.levels: dict[str, tuple[list[str], dict[str, Any]]] = {}  # by folder: names of folders, files by name

    def isdir(self, path: str) -> bool:
        """Whether a folder is there."""
        return path in self.levels or bool(self.fs.isdir(path))

    def isfile(self, path: str) -> bool:
        """Whether a file is there."""
        return bool(self.fs.isfile(path))

    def ls(self, path: str) -> list[str]:
        """Paths of what lies in a folder."""
        return [str(name) for name in self.fs.ls(path, detail=False)]

    def exists(self, path: str) -> bool:
        """Whether a file or a folder is there."""
        return bool(self.fs.exists(path))

    def open(self, path: str, mode: str = "rb") -> Any:
        """The file, or its copy on this machine."""
        folder, _, name = path.rpartition("/")
        info = self.levels.get(folder, ([], {}))[1].get(name)
        if self.copies and info:
            identity = f"{self.kind} {path} {info['size']} {modified(info)}"
            if copy := self.copies.open(identity, info["size"], lambda: self.fs.open(path, "rb")):
                return copy
        return self.fs.open(path, mode)

    def walk(self, path: str) -> Iterator[tuple[str, list[str], list[str]]]:
        """Folders and files; zero-byte objects are markers that S3 writers leave, not Parquet files."""
        if path not in self.levels:
            _, folders, files = next(self.fs.walk(path, detail=True), (path, {}, {}))
            self.levels[path] = list(folders), {name: info for name, info in files.items() if info["size"]}
        folders, files = self.levels[path]
        yield path, folders, list(files)
        for folder in folders:
            yield from self.walk(f"{path}/{folder}")
