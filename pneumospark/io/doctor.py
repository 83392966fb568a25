"""`python -m pneumospark doctor`: looks at machine, stores, tables and devices, and says what to change."""

import os
import re
import secrets
import shutil
import subprocess
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pneumospark.errors import ConfigError, PneumosparkError
from pneumospark.io import bundle, preflight
from pneumospark.io.drivers import FAILURES, said
from pneumospark.io.files import Store, canonical, store_of
from pneumospark.io.preflight import Finding
from pneumospark.io.registry import bundle_uri
from pneumospark.io.stock import take_stock

READ = (("ingest", "source"), ("score", "source"), ("score", "images"))
WRITTEN = (("ingest", "images"), ("ingest", "quarantine"), ("score", "predictions"), ("score", "quarantine"))
"""Settings that name places."""


@dataclass(frozen=True)
class Questions:
    """What the command line asks to look at."""

    config: str | None = None
    bundle: str | None = None
    source: str | None = None
    master: str | None = None
    readers: int = 1


def examine(asked: Questions) -> Iterator[Finding]:
    """All findings, as they come; raises ConfigError for a file that cannot be read."""
    settings = _settings(asked.config)
    java = preflight.java_fits(_java())
    yield java
    if java.ok:
        if asked.master:
            os.environ["PYSPARK_SUBMIT_ARGS"] = f"--master {asked.master} pyspark-shell"
        from pneumospark.io.session import session

        spark = session("doctor")
        conf = spark.sparkContext.getConf()
        yield from preflight.cheap(lambda name, default: str(conf.get(name, default)))
        yield Finding("spark", True, f"{spark.version} on {spark.sparkContext.master}")
        yield from _places(asked, settings, store_of(spark))
    yield preflight.gpu(len(list(Path("/dev").glob("nvidia[0-9]*"))), _gpus())


def _places(asked: Questions, settings: dict[str, Any], store: Store) -> Iterator[Finding]:
    def named(keys: Iterable[tuple[str, str]]) -> list[str]:
        return [settings[section][key] for section, key in keys if settings.get(section, {}).get(key)]

    for uri in dict.fromkeys([*([asked.source] if asked.source else []), *named(READ)]):
        yield readable(canonical(uri), store)
    for uri in dict.fromkeys(named(WRITTEN)):
        yield writable(canonical(uri), store)
    for uri in dict.fromkeys([*([asked.bundle] if asked.bundle else []), *named((("score", "bundle"),))]):
        yield usable(uri, store)
    if prepared := settings.get("train", {}).get("prepared"):
        yield groups_of(canonical(prepared), store, asked.readers)


def readable(uri: str, store: Store) -> Finding:
    """Whether something is there that can be listed."""
    try:
        if not store.exists(uri):
            return Finding("source", False, f"{uri}: nothing is there")
        next(iter(store.list_folder(uri)), None)
    except PneumosparkError as error:
        return Finding("source", False, str(error))
    return Finding("source", True, uri)


def writable(uri: str, store: Store) -> Finding:
    """Whether a file can be written below a place, read back and taken away again."""
    probe = f"{uri}/_doctor-{secrets.token_hex(4)}"
    is_new = False
    try:
        is_new = not store.exists(uri)
        store.put(probe, b"probe")
        same = store.fetch(probe) == b"probe"
        store.remove(probe)
    except (PneumosparkError, *FAILURES) as error:
        return Finding("write", False, str(error) if isinstance(error, PneumosparkError) else f"{uri}: {said(error)}")
    if is_new and uri.startswith("file:"):
        Path(uri.removeprefix("file://")).rmdir()  # the probe alone had made it
    return Finding("write", same, uri if same else f"{uri}: what was written is not what is read")


def usable(uri: str, store: Store) -> Finding:
    """Whether a bundle is whole and unchanged."""
    try:
        found = bundle.read(bundle_uri(uri), store)
    except PneumosparkError as error:
        return Finding("bundle", False, str(error))
    return Finding("bundle", True, f"{uri}: model {found.model_id}")


def groups_of(uri: str, store: Store, readers: int) -> Finding:
    """Row groups of a table to learn from, where it is there yet."""
    try:
        if not store.exists(uri):
            return Finding("row groups", True, f"{uri}: nothing is there yet")
        stock = take_stock(uri, "pixels", store)
    except PneumosparkError as error:
        return Finding("row groups", False, str(error))
    return preflight.row_groups({split: len(groups) for split, groups in stock.groups.items()}, readers)


def _settings(path: str | None) -> dict[str, Any]:
    if not path:
        return {}
    try:
        return tomllib.loads(Path(path).read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"--config {path}: {error}") from error


def _java() -> str | None:
    """What the Java says of itself that Spark would start; None where there is none."""
    beside = Path(shutil.which("spark-submit") or "").parent.parent / "java" / "bin" / "java"
    at_home = Path(os.environ.get("JAVA_HOME", "/nonexistent")) / "bin" / "java"
    found = next((str(path) for path in (beside, at_home) if path.exists()), shutil.which("java"))
    if not found:
        return None
    done = subprocess.run([found, "-version"], capture_output=True, text=True, check=False)
    return done.stderr if re.search("version", done.stderr) else None


def _gpus() -> int:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf  # seconds and gigabytes

    return len(tf.config.list_physical_devices("GPU"))
