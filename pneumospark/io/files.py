"""Source files on any store, by fsspec: list a folder, read a file. The same calls on the driver and on executors."""

import atexit
import heapq
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple

import fsspec
from pyspark.sql import SparkSession

from pneumospark.errors import ConfigError, DecodeError, SourceError
from pneumospark.io.drivers import FAILURES, REFUSED, S3_SCHEMES, hdfs, options_of, said, within
from pneumospark.io.s3 import S3
from pneumospark.io.walks import LocalFileSystem

DEADLINE = 40.0
"""Seconds for the first word of a store: drivers wait for ever for a server that takes the call and says nothing."""


TIMES = datetime(1678, 1, 1, tzinfo=UTC), datetime(2262, 1, 1, tzinfo=UTC)
"""What pandas can hold. Times outside, such as the year 1601 of a share that knows none, count as the epoch."""

_OPEN: dict[tuple[int, str, str, str], fsspec.AbstractFileSystem] = {}


class Entry(NamedTuple):
    """One line of a listing; `modified_at` in UTC, `length` in bytes."""

    path: str
    is_folder: bool
    length: int
    modified_at: datetime


@dataclass(frozen=True)
class Store:
    """How to reach each kind of store: fsspec options by scheme. Travels to executors inside the functions there."""

    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, repr=False)  # may hold secrets

    def filesystem(self, uri: str) -> fsspec.AbstractFileSystem:
        """The fsspec file system of a URI, one for all threads of a process.

        fsspec itself keeps one for each thread, and that of S3 takes 0.2 s to make. Raises SourceError where there is
        no driver, or no NameNode named.
        """
        scheme = scheme_of(uri)
        options = dict(self.options.get(scheme, {}))
        authority = ""
        if scheme == "hdfs":
            authority = uri.partition("://")[2].partition("/")[0] or str(options.get("default") or "")
            if not authority:
                raise SourceError(f"{uri}: expected hdfs://host:port/... or an fs.defaultFS in Spark's settings")
        key = (os.getpid(), scheme, authority, json.dumps(options, sort_keys=True))  # a fork must not share sockets
        if key in _OPEN:
            return _OPEN[key]
        try:
            if scheme == "hdfs":
                made = hdfs(authority, options.get("namenodes", {}))
            elif scheme in S3_SCHEMES:
                if refused := options.pop(REFUSED, ""):
                    raise SourceError(f"{uri}: {refused}")
                made = S3(**options)
            elif scheme == "file":
                made = LocalFileSystem(**options)
            else:
                made = fsspec.filesystem(scheme, **options)
            return _OPEN.setdefault(key, made)
        except (ImportError, ValueError) as error:
            raise SourceError(f"{uri}: no driver for {scheme}:// on this machine ({error})") from error
        except FAILURES as error:
            raise SourceError(f"{uri}: the store cannot be reached: {said(error)}") from error

    def exists(self, uri: str) -> bool:
        """Whether a file or a folder is there.

        Raises SourceError where the store itself fails: no answer, wrong keys, no such bucket.
        """
        filesystem = self.filesystem(uri)
        if scheme_of(uri) == "file":
            return bool(filesystem.exists(plain(uri)))
        try:  # not fsspec's `exists`: that of s3fs takes every failure for "no"
            return within(DEADLINE, lambda: bool(filesystem.info(plain(uri))))
        except FileNotFoundError as error:
            if type(error.__cause__).__name__ == "NoSuchBucket" or "/" not in plain(uri):
                bucket = plain(uri).partition("/")[0]
                raise SourceError(f"{uri}: there is no bucket {bucket!r}, or these keys do not see it") from error
            return False
        except PermissionError as error:
            raise SourceError(f"{uri}: the store refuses access, are the keys right? {said(error)}") from error
        except FAILURES as error:
            raise SourceError(f"{uri}: the store cannot be reached: {said(error)}") from error

    def read(self, path: str) -> bytes:
        """All bytes of a file; raises DecodeError("unreadable") where the store does not give them.

        Raises SourceError where the store gives nothing at all: that must not send every file to quarantine.
        """
        try:
            if scheme_of(path) == "file":  # the plain call costs a tenth of fsspec's
                return Path(path.removeprefix("file://")).read_bytes()
            return self._fetch_patiently(path)
        except FAILURES as error:
            detail = getattr(error, "strerror", None) or error
            raise DecodeError("unreadable", f"{type(error).__name__}: {detail}") from error

    def fetch(self, uri: str) -> bytes:
        """All bytes of a file; raises one of FAILURES."""
        content: bytes = self.filesystem(uri).cat_file(plain(uri))
        return content

    def _fetch_patiently(self, path: str) -> bytes:
        try:
            return self.fetch(path)
        except FileNotFoundError:
            raise
        except FAILURES:
            self.exists(_folder(path))
            return self.fetch(path)  # the store itself answers: once more, then it is the file

    def put(self, uri: str, content: bytes) -> None:
        """Write a file whole; its folders are made. Raises SourceError where the store refuses it."""
        filesystem = self.filesystem(uri)
        try:
            if scheme_of(uri) not in S3_SCHEMES:  # s3fs would make the bucket, too, where its name was mistyped
                filesystem.makedirs(plain(uri).rpartition("/")[0], exist_ok=True)
            filesystem.pipe_file(plain(uri), content)
        except FAILURES as error:
            raise SourceError(f"{uri}: cannot be written: {said(error)}") from error

    def replace(self, uri: str, content: bytes) -> None:
        """As `put`, but a file that is there already stays as it is until the new one is whole."""
        if scheme_of(uri) in S3_SCHEMES:  # which does it so anyway
            self.put(uri, content)
            return
        self.put(part := f"{uri}.part", content)
        try:
            self.filesystem(uri).mv(plain(part), plain(uri), overwrite=True)
        except FAILURES as error:
            raise SourceError(f"{uri}: cannot be written: {said(error)}") from error

    def remove(self, uri: str) -> None:
        """Take a file away, where it is there; raises one of FAILURES where the store refuses."""
        with suppress(FileNotFoundError):
            self.filesystem(uri).rm_file(plain(uri))

    @contextmanager
    def open_for_write(self, uri: str) -> Iterator[IO[bytes]]:
        """A file to write bytes into, written whole at the end; its folders are made."""
        with BytesIO() as file:
            yield file
            self.put(uri, file.getvalue())

    def list_folder(self, uri: str) -> Iterator[Entry]:
        """The files and folders directly below a folder, or the file itself; names are taken as they are, no globs.

        Raises SourceError where they cannot be listed, and for names that a path here cannot say.
        """
        if scheme_of(uri) == "file" and Path(plain(uri)).is_dir():
            yield from _local_entries(uri)
            return
        filesystem = self.filesystem(uri)
        for info in self._listed(uri):
            name, is_folder = str(info["name"]), _is_folder(info, filesystem)
            if name.endswith("/") and is_folder and scheme_of(uri) in S3_SCHEMES:
                raise SourceError(f"{uri}: expected no keys with '//' in them, found {name}/; rename these objects")
            if name.rstrip("/") == plain(uri).rstrip("/") and (is_folder or name.endswith("/")):
                continue  # object stores list a folder's own marker
            yield Entry(_uri(name, uri), is_folder, int(info["size"] or 0), modified(info))

    def first_names(self, uri: str, always: Callable[[str], bool], count: int = 1000) -> list[str]:
        """Names of the first entries of a folder, and of all others that are `always` wanted: they tell its layout."""
        is_local = scheme_of(uri) == "file" and Path(plain(uri)).is_dir()
        held = [] if is_local else [PurePosixPath(str(info["name"])).name for info in self._listed(uri)]

        def names() -> Iterator[str]:
            if not is_local:
                yield from held
                return
            with os.scandir(plain(uri)) as entries:
                yield from (entry.name for entry in entries)

        return sorted({*heapq.nsmallest(count, names()), *filter(always, names())})

    def _listed(self, uri: str) -> list[dict[str, Any]]:
        try:
            return list(self.filesystem(uri).ls(plain(uri), detail=True))
        except FAILURES as error:
            raise SourceError(f"{uri}: cannot be listed: {said(error)}") from error


def store_of(spark: SparkSession) -> Store:
    """The stores as this Spark is set up to reach them (fs.s3a.*, fs.defaultFS): one place for credentials."""
    return Store(options_of(spark))


def canonical(uri: str) -> str:
    """scheme://path without a trailing slash: the form in which the tables keep paths; a plain path becomes file://.

    Raises ConfigError for `hdfs:/path`, which would be a folder of that name here.
    """
    scheme, found, rest = uri.partition("://")
    if not found and (named := re.match("([a-z][a-z0-9]+):/", uri, re.IGNORECASE)) and named[1].lower() != "file":
        raise ConfigError(f"{uri}: expected two slashes behind the scheme, as in {named[1]}://HOST/FOLDER, got one")
    if not found or scheme.lower() == "file":
        path = Path(rest if found else re.sub("^file:", "", uri, flags=re.IGNORECASE)).expanduser()
        # without "..", or one file had two names; `resolve` would follow links besides
        return f"file://{os.path.abspath(path)}"  # noqa: PTH100
    return f"{scheme.lower()}://{rest.rstrip('/') or '/'}"


def resolve(uri: str, store: Store, flag: str) -> str:
    """The canonical form of a source; raises SourceError where nothing is there."""
    uri = canonical(uri)
    try:
        found = store.exists(uri)
    except SourceError as error:
        raise SourceError(f"{flag} {error}") from error
    if not found:
        raise SourceError(f"{flag} {uri}: expected a folder or a file, found nothing there")
    return uri


def scratch_folder() -> Path:
    """A new folder on this machine that lives as long as the process: executors may still ask for what is in it."""
    folder = Path(tempfile.mkdtemp(prefix="pneumospark-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def literal(uri: str) -> str:
    """A URI for Spark's readers, which would take these characters for a pattern."""
    return re.sub(r"[][{}*?\\]", r"\\\g<0>", uri)


def scheme_of(uri: str) -> str:
    """The scheme of a URI in lower case, "file" for a plain path."""
    return uri.partition("://")[0].lower() if "://" in uri else "file"


def plain(uri: str) -> str:
    """What fsspec calls the file: a path for local files and HDFS, bucket/key for S3."""
    scheme, found, rest = uri.partition("://")
    if not found:
        return uri
    return "/" + rest.partition("/")[2] if scheme == "hdfs" else rest


def _folder(uri: str) -> str:
    """The folder that a file lies in: keys of a bucket may be for no more than a part of it."""
    folder = uri.rpartition("/")[0]
    return folder if scheme_of(uri) in S3_SCHEMES or plain(folder) != "/" else f"{folder}/"


def _uri(name: str, folder: str) -> str:
    """The URI of a name that a listing of `folder` gave, in the folder's own scheme and authority."""
    scheme, _, rest = folder.partition("://")
    if scheme == "hdfs":
        name = (
            rest.partition("/")[0] + "/" + name.partition("://")[2].partition("/")[2]
            if "://" in name
            else rest.partition("/")[0] + name
        )
    uri = f"{scheme}://{name}"
    try:
        uri.encode()
    except UnicodeEncodeError as error:
        raise SourceError(f"{uri!r}: the name is not valid UTF-8; rename the file") from error
    return uri.rstrip("/")


def _local_entries(uri: str) -> Iterator[Entry]:
    """A folder of this machine, entry by entry: fsspec's `ls` would hold all of a large one."""
    try:
        with os.scandir(plain(uri)) as entries:
            for entry in entries:
                try:
                    stat, is_folder = entry.stat(), entry.is_dir()
                except OSError:
                    if not os.path.lexists(entry.path):
                        continue  # taken away since the listing began: another process's lock, a file moved on
                    stat, is_folder = entry.stat(follow_symlinks=False), False  # a link to nowhere: reading says so
                yield Entry(_uri(entry.path, uri), is_folder, stat.st_size, _told(stat.st_mtime))
    except OSError as error:
        raise SourceError(f"{uri}: cannot be listed: {said(error)}") from error


def _is_folder(info: Mapping[str, Any], filesystem: fsspec.AbstractFileSystem) -> bool:
    if info.get("islink"):
        return bool(filesystem.isdir(info["name"]))
    return bool(info["type"] == "directory")


def modified(info: Mapping[str, Any]) -> datetime:
    """Modification time in whole microseconds, UTC; the epoch where the store keeps none (an S3 prefix)."""
    value = next((info[key] for key in ("mtime", "LastModified", "modification_time") if info.get(key)), 0)
    if isinstance(value, datetime):
        return value.astimezone(UTC)
    return _told(value / 1000 if value > 1e11 else value)  # HDFS counts milliseconds


def _told(seconds: float) -> datetime:
    is_known = TIMES[0].timestamp() <= seconds < TIMES[1].timestamp()
    return datetime.fromtimestamp(seconds if is_known else 0, UTC)
