"""Source files on any store, by fsspec: list a folder, read a file. The same calls on the driver and on executors."""

import atexit
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import fsspec
from pyspark.sql import SparkSession

from pneumospark.errors import DecodeError, SourceError

S3_KEYS = {
    "fs.s3a.access.key": "key",
    "fs.s3a.secret.key": "secret",
    "fs.s3a.session.token": "token",
    "fs.s3a.endpoint": "endpoint_url",
}
"""What s3fs calls the settings that Spark has for s3a."""


class Entry(NamedTuple):
    """One line of a listing; `modified_at` in UTC, `length` in bytes."""

    path: str
    is_folder: bool
    length: int
    modified_at: datetime


@dataclass(frozen=True)
class Store:
    """How to reach each kind of store: fsspec options by scheme. Travels to the executors inside the functions there."""

    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, repr=False)  # may hold secrets

    def filesystem(self, uri: str) -> fsspec.AbstractFileSystem:
        """The fsspec file system of a URI; raises SourceError where its driver is not installed."""
        scheme = scheme_of(uri)
        options = dict(self.options.get(scheme, {}))
        if scheme == "hdfs":
            from hdfs_native.fsspec import HdfsFileSystem  # needs neither a JVM nor libhdfs

            authority = uri.removeprefix("hdfs://").partition("/")[0] or options["default"]
            host, _, port = authority.partition(":")
            return HdfsFileSystem(host=host, port=int(port or 8020))
        try:
            return fsspec.filesystem("s3" if scheme in ("s3a", "s3n") else scheme, **options)
        except (ImportError, ValueError) as error:
            raise SourceError(f"{uri}: no driver for {scheme}:// on this machine ({error})") from error

    def read(self, path: str) -> bytes:
        """All bytes of a file; raises DecodeError("unreadable") where the store does not give them."""
        try:
            if scheme_of(path) == "file":  # the plain call costs a tenth of fsspec's
                return Path(path.removeprefix("file://")).read_bytes()
            content: bytes = self.filesystem(path).cat_file(plain(path))
            return content
        except OSError as error:
            raise DecodeError("unreadable", f"{type(error).__name__}: {error.strerror or error}") from error

    def open_for_write(self, uri: str) -> Any:
        """A file to write bytes into; its folders are made."""
        filesystem = self.filesystem(uri)
        filesystem.makedirs(plain(uri).rpartition("/")[0], exist_ok=True)
        return filesystem.open(plain(uri), "wb")

    def list_folder(self, uri: str) -> Iterator[Entry]:
        """The files and folders directly below a folder, or the file itself; names are taken as they are, no globs."""
        filesystem = self.filesystem(uri)
        for info in filesystem.ls(plain(uri), detail=True):
            name = str(info["name"])
            if name.rstrip("/") == plain(uri).rstrip("/") and info["type"] == "directory":
                continue  # object stores list a folder's own marker
            yield Entry(_uri(name, uri), _is_folder(info, filesystem), int(info["size"] or 0), _modified(info))

    def first_names(self, uri: str, count: int = 1000) -> list[str]:
        """Names of the first entries of a folder, to recognise its layout."""
        names = [PurePosixPath(str(info["name"])).name for info in self.filesystem(uri).ls(plain(uri), detail=True)]
        return sorted(names)[:count]


def store_of(spark: SparkSession) -> Store:
    """The stores as this Spark is set up to reach them (fs.s3a.*, fs.defaultFS): one place for credentials."""
    hadoop = spark.sparkContext._jsc.hadoopConfiguration()
    s3: dict[str, Any] = {name: hadoop.get(key) for key, name in S3_KEYS.items() if hadoop.get(key)}
    if region := hadoop.get("fs.s3a.endpoint.region"):
        s3["client_kwargs"] = {"region_name": region}
    if "endpoint_url" in s3 and "://" not in s3["endpoint_url"]:
        secure = hadoop.get("fs.s3a.connection.ssl.enabled") != "false"
        s3["endpoint_url"] = f"{'https' if secure else 'http'}://{s3['endpoint_url']}"
    default = (hadoop.get("fs.defaultFS") or "").removeprefix("hdfs://").strip("/")
    return Store({"s3a": s3, "s3": s3, "hdfs": {"default": default}})


def canonical(uri: str) -> str:
    """scheme://path without a trailing slash: the form in which the tables keep paths; a plain path becomes file://."""
    if "://" not in uri:
        uri = "file://" + str(Path(uri.removeprefix("file:")).expanduser().absolute())
    return uri.rstrip("/")


def resolve(uri: str, store: Store, flag: str) -> str:
    """The canonical form of a source; raises SourceError where nothing is there."""
    uri = canonical(uri)
    try:
        found = store.filesystem(uri).exists(plain(uri))
    except OSError as error:
        raise SourceError(f"{flag} {uri}: cannot be reached: {error}") from error
    if not found:
        raise SourceError(f"{flag} {uri}: expected a folder or a file, found nothing there")
    return uri


def scratch_folder() -> Path:
    """A new folder on this machine that lives as long as the process: executors may still ask for what is in it."""
    folder = Path(tempfile.mkdtemp(prefix="pneumospark-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def scheme_of(uri: str) -> str:
    """The scheme of a URI in lower case, "file" for a plain path."""
    return uri.partition("://")[0].lower() if "://" in uri else "file"


def plain(uri: str) -> str:
    """What fsspec calls the file: a path for local files and HDFS, bucket/key for S3."""
    scheme, found, rest = uri.partition("://")
    if not found:
        return uri
    return "/" + rest.partition("/")[2] if scheme == "hdfs" else rest


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


def _is_folder(info: Mapping[str, Any], filesystem: fsspec.AbstractFileSystem) -> bool:
    if info.get("islink"):
        return bool(filesystem.isdir(info["name"]))
    return bool(info["type"] == "directory")


def _modified(info: Mapping[str, Any]) -> datetime:
    """Modification time in whole microseconds, UTC; the epoch where the store keeps none (an S3 prefix)."""
    value = next((info[key] for key in ("mtime", "LastModified", "modification_time") if info.get(key)), 0)
    if isinstance(value, datetime):
        return value.astimezone(UTC)
    return datetime.fromtimestamp(value / 1000 if value > 1e11 else value, UTC)  # HDFS counts milliseconds
