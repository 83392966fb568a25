"""What the Spark tests share: one session, the whole way run once over a tiny corpus, tables compared by content."""

import fcntl
import hashlib
import json
import os
import shlex
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pyarrow.dataset
import pytest
from hypothesis import settings
from processes import SMALL
from pyspark.sql import SparkSession

from pneumospark.io.session import session
from pneumospark.synthetic import write_corpus

settings.register_profile("any machine", deadline=None)  # a busy machine is slow, and that is no error
settings.load_profile("any machine")

PATIENTS = 12
SIDE = 48
SPEC = (f"--set=image.height={SIDE}", f"--set=image.width={SIDE}")
SHARES = ("--shares", "0.5,0.25,0.25", "--salt", "34")
"""Both classes in every split of the 12 patients."""

OF_A_RUN = ("run_id", "ingest_id", "scored_at")
"""Columns that tell when and by which run a row was written: two runs of the same job differ in these alone."""

FLOATS = ("probability", "features")
"""Columns whose last digits depend on which images share a batch."""

LONGEST = (
    *("stores", "ingest", "kill", "nightly", "incremental", "cluster", "privacy", "night_of_kills", "trainer"),
    *("extract", "targets", "train", "score", "evaluate", "registry", "quality"),
)
"""Files of tests, the longest first: a long one begun last would leave the other process of `make test` idle."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The order of LONGEST, then as it was; the Makefile keeps xdist from an order of its own."""
    places = {f"test_{name}.py": place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))


def call(job: ModuleType, *args: object) -> dict[str, Any]:
    """Run a job in this process; the summary of its counts."""
    summary: dict[str, Any] = job.main([str(arg) for arg in args])
    return summary


def rows(table: Path) -> list[dict[str, Any]]:
    """All rows of a table, read by plain pyarrow, so that Spark does not check itself; none where there is no table."""
    if not any(table.glob("run_id=*")):
        return []
    partitioning = pyarrow.dataset.partitioning(flavor="hive")
    read: list[dict[str, Any]] = pyarrow.dataset.dataset(table, partitioning=partitioning).to_table().to_pylist()
    return read


def content(table: Path, *without: str) -> Counter[str]:
    """A table's rows, each as a hash: two tables of equal content hold the same rows equally often."""
    left_out = {*OF_A_RUN, *FLOATS, *without}
    return Counter(
        hashlib.sha256(repr(sorted((k, v) for k, v in row.items() if k not in left_out)).encode()).hexdigest()
        for row in rows(table)
    )


def runs(table: Path) -> list[str]:
    return sorted(folder.name.removeprefix("run_id=") for folder in table.glob("run_id=*"))


def by_name(table: Path) -> dict[str, dict[str, Any]]:
    """Rows by the name of their file, for tables where names do not repeat."""
    found = {row["path"].rpartition("/")[2]: row for row in rows(table)}
    assert len(found) == len(rows(table))
    return found


def write(folder: Path, files: dict[str, bytes]) -> Path:
    """Files by their path below a folder, which is returned."""
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    """The session that every job of this process finds running: local[2], as a job itself would make it."""
    # To plan anew after each stage costs more than a plan for some dozen rows can gain. Jobs in processes of their own
    # keep Spark's default, adaptive.
    quick = ("--conf", "spark.sql.adaptive.enabled=false")
    os.environ["PYSPARK_SUBMIT_ARGS"] = shlex.join(("--master", "local[2]", *SMALL, *quick, "pyspark-shell"))
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    running = session("tests")
    yield running
    running.stop()
    del os.environ["PYSPARK_SUBMIT_ARGS"]


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of one run of pytest have in common."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


def once(folder: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `make` returns when it fills a folder; the first process that asks does it, others wait and read it."""
    told = folder.with_suffix(".json")
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not told.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of a process that failed half way
            made = json.dumps(make())
            told.write_text(made)
    found: dict[str, Any] = json.loads(told.read_text())
    return found


@pytest.fixture(scope="session")
def corpus(shared: Path) -> Path:
    """Twelve synthetic patients with a duplicate and two broken files; nobody writes into it."""
    once(shared / "corpus", lambda: write_corpus(shared / "corpus", PATIENTS))
    return shared / "corpus"


class Tables(NamedTuple):
    """Where one way keeps its results."""

    folder: Path

    def __getattr__(self, name: str) -> Path:
        return self.folder / name

    def ingest(self, source: Path, *more: object) -> dict[str, Any]:
        import ingest

        return call(ingest, "--source", source, "--images", self.images, "--quarantine", self.quarantine, *more)

    def extract(self, *more: object) -> dict[str, Any]:
        import extract

        return call(extract, "--images", self.images, "--prepared", self.prepared, *SPEC, *more)

    def train(self, *more: object) -> dict[str, Any]:
        import train

        small = ("--epochs", 2, "--batch-size", 8, "--threshold", "0.5")
        return call(train, "--prepared", self.prepared, "--bundle", self.bundle, *small, *more)

    def score(self, source: Path, bundle: Path, *more: object) -> dict[str, Any]:
        return self.score_from("--source", source, "--bundle", bundle, *more)

    def score_from(self, *args: object) -> dict[str, Any]:
        import score

        return call(score, "--predictions", self.predictions, "--quarantine", self.quarantine, *args)

    def evaluate(self, *more: object) -> dict[str, Any]:
        import evaluate

        tables = ("--predictions", self.predictions, "--images", self.images, "--report", self.report)
        return call(evaluate, *tables, *more)

    def quality(self, *more: object) -> dict[str, Any]:
        import quality

        return call(quality, "--images", self.images, "--report", self.report, *SPEC, *more)


class Way(NamedTuple):
    """The whole way over the corpus: its tables and each job's summary. Nobody writes into it either."""

    corpus: Path
    tables: Tables
    summaries: dict[str, dict[str, Any]]


@pytest.fixture
def tables(spark: SparkSession, tmp_path: Path) -> Tables:
    """Fresh tables for one test."""
    return Tables(tmp_path / "tables")


@pytest.fixture(scope="session")
def ingested(spark: SparkSession, corpus: Path, shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Way:
    """The way as far as it goes without TensorFlow."""
    tables = Tables(shared / "ingested")
    summaries = once(tables.folder, lambda: {"ingest": tables.ingest(corpus, *SHARES), "extract": tables.extract()})
    return own_copy(Way(corpus, tables, summaries), tmp_path_factory)


@pytest.fixture(scope="session")
def way(ingested: Way, shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Way:
    """The whole way, features by the trained bundle among it."""
    tables = Tables(shared / "way")

    def walk() -> dict[str, Any]:
        shutil.copytree(ingested.tables.folder, tables.folder)
        return {
            **ingested.summaries,
            "train": tables.train(),
            "features": tables.extract("--features", tables.features, "--backbone", tables.bundle),
            "score": tables.score(ingested.corpus, tables.bundle),
            "evaluate": tables.evaluate(),
        }

    return own_copy(Way(ingested.corpus, tables, once(tables.folder, walk)), tmp_path_factory)


def own_copy(way: Way, tmp_path_factory: pytest.TempPathFactory) -> Way:
    """The same tables for this process alone: a job locks tables also where it finds nothing to do in them."""
    folder = tmp_path_factory.mktemp("way") / "tables"
    return way._replace(tables=Tables(shutil.copytree(way.tables.folder, folder)))
