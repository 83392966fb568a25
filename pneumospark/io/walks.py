"""fsspec's walks of folders, made complete: needed by every driver, and so without the packages of any one of them."""

from collections.abc import Iterator
from typing import Any

from fsspec.implementations import local


class Complete:
    """For fsspec's `walk` and `find`, which take a folder that may not be listed for an empty one: that is raised."""

    def walk(self, path: str, maxdepth: int | None = None, topdown: bool = True, **options: Any) -> Iterator[Any]:
        """As fsspec's, which calls this for every folder below; what is gone since it was listed is left out."""
        options["on_error"] = _unless_gone
        yield from super().walk(path, maxdepth, topdown, **options)  # type: ignore[misc]


class LocalFileSystem(Complete, local.LocalFileSystem):  # type: ignore[misc]
    """The disks of this machine; pyarrow, which has a faster driver of its own for them, goes by this very name."""


def _unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error
