"""kill -9 in the middle of each job, then the job again: the same tables as if nothing had happened."""

import errno
import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import images
import numpy as np
import pytest
from conftest import SIDE, Tables, Way, content, rows, runs, write
from processes import job, wait_for
from pyspark.sql import SparkSession

pytestmark = [pytest.mark.cluster, pytest.mark.spark]

TASKS = 5
OPTIONS = ("--master", "local[4]", "--conf", f"spark.default.parallelism={TASKS}")
LARGE = ("--set=image.height=400", "--set=image.width=400")
"""Large enough that extract takes a while for each task."""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Enough files for TASKS tasks, a bad one for each."""
    grey = images.ramp(64, 64) // 2
    good = {f"{('NORMAL', 'PNEUMONIA')[n % 2]}/{n:03d}.png": images.png(np.roll(grey, n)) for n in range(32 * TASKS)}
    bad = {f"NORMAL/bad{n}.png": images.TEXT for n in range(TASKS)}
    return write(tmp_path_factory.mktemp("kill") / "source", good | bad)


@pytest.fixture(scope="module")
def undisturbed(spark: SparkSession, source: Path) -> Tables:
    """`images` and `prepared` of jobs that nobody disturbed; ingest as a process, so that it writes TASKS files."""
    tables = Tables(source.parent / "undisturbed")
    with job("ingest", source.parent / "ingest", *ingest_args(source, tables), options=OPTIONS) as ingest:
        assert ingest.summary()["images"] == 32 * TASKS
    assert tables.extract(*LARGE)["images"] == 32 * TASKS
    return tables


def ingest_args(source: Path, tables: Tables) -> tuple[object, ...]:
    return "--source", source, "--images", tables.images, "--quarantine", tables.quarantine


def committed(table: Path) -> list[Path]:
    """Tasks of a run that are done while the run itself is not."""
    return list(table.glob("run_id=*/_temporary/0/task_*"))


def in_the_middle(table: Path) -> bool:
    return len(committed(table)) >= 2


def assert_cut_off(table: Path, tasks: int = TASKS) -> None:
    """The kill came in the middle: some tasks were done, not all, and the run was not."""
    assert 2 <= len(committed(table)) < tasks
    assert not list(table.glob("run_id=*/_SUCCESS")) and not list(table.glob("run_id=*/*.parquet"))


@contextmanager
def hanging(path: Path) -> Iterator[None]:
    """A file whose reading never ends, as on a store that hangs: its task cannot finish, so no kill comes too late."""
    stat, data = path.stat(), path.read_bytes()
    path.unlink()
    os.mkfifo(path)
    try:
        yield
        wait_for(lambda: not is_read(path))  # no worker outlives the kill
    finally:
        path.unlink()
        path.write_bytes(data)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def is_read(fifo: Path) -> bool:
    try:
        os.close(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
    except OSError as error:
        assert error.errno == errno.ENXIO
        return False
    return True


def test_ingest(undisturbed: Tables, source: Path, tables: Tables, tmp_path: Path) -> None:
    with (
        hanging(source / "PNEUMONIA/101.png"),
        job("ingest", tmp_path / "job", *ingest_args(source, tables), options=OPTIONS) as killed,
    ):
        assert killed.killed_when(lambda: in_the_middle(tables.images))
    assert_cut_off(tables.images)
    assert rows(tables.images) == [] == rows(tables.quarantine)

    assert tables.ingest(source)["images"] == 32 * TASKS
    assert content(tables.images) == content(undisturbed.images)
    assert content(tables.quarantine) == content(undisturbed.quarantine)
    assert len(runs(tables.images)) == 2  # the dead run's folder is still there, and nobody has touched it
    assert 2 <= len(committed(tables.images)) < TASKS


def test_a_machine_that_sleeps(undisturbed: Tables, source: Path, tables: Tables, tmp_path: Path) -> None:
    # Spark's two minutes as six seconds. It is by chance whether an awakened driver counts them before it hears of its
    # executor, so it sleeps several times. Questions within Spark keep their two minutes: Java times these by a
    # clock that stands still while Linux is suspended, though not while a process is stopped, as here.
    times = (
        "network.timeout=6s",
        "rpc.askTimeout=120s",
        "storage.blockManagerTimeoutIntervalMs=1s",
        "executor.heartbeatInterval=1s",
    )
    options = (*OPTIONS, *(part for time in times for part in ("--conf", f"spark.{time}")))
    with job("ingest", tmp_path, *ingest_args(source, tables), options=options) as sleepy:
        wait_for(lambda: committed(tables.images), sleepy.said)
        for _ in range(3):
            os.killpg(sleepy.process.pid, signal.SIGSTOP)
            time.sleep(8)
            os.killpg(sleepy.process.pid, signal.SIGCONT)
            time.sleep(0.5)
        assert sleepy.summary()["images"] == 32 * TASKS
    assert content(tables.images) == content(undisturbed.images)


def test_extract(undisturbed: Tables, tmp_path: Path) -> None:
    for attempt in range(5):  # it may come too late: after the commit
        tables = Tables(tmp_path / str(attempt))
        args = ("--images", undisturbed.images, "--prepared", tables.prepared, *LARGE)
        with job("extract", tables.folder, *args, options=(*OPTIONS, "--master", "local[2]")) as extract:
            killed = extract.killed_when(lambda table=tables.prepared: in_the_middle(table))
        if killed and not rows(tables.prepared):
            break
    assert_cut_off(tables.prepared)

    summary = tables.extract("--images", undisturbed.images, *LARGE)
    assert (summary["images"], summary["known"]) == (32 * TASKS, 0)
    assert content(tables.prepared) == content(undisturbed.prepared)


@pytest.mark.tensorflow
def test_score(way: Way, source: Path, tables: Tables, tmp_path: Path) -> None:
    args = ("--source", source, "--predictions", tables.predictions, "--quarantine", tables.quarantine)
    bundle = ("--bundle", way.tables.bundle)
    with (
        hanging(source / "PNEUMONIA/101.png"),
        job("score", tmp_path / "job", *args, *bundle, options=OPTIONS) as killed,
    ):
        assert killed.killed_when(lambda: in_the_middle(tables.predictions))
    assert_cut_off(tables.predictions)

    assert tables.score(source, way.tables.bundle)["images"] == 32 * TASKS
    undisturbed = Tables(tmp_path / "undisturbed")
    undisturbed.score(source, way.tables.bundle)
    assert content(tables.predictions) == content(undisturbed.predictions)
    assert content(tables.quarantine) == content(undisturbed.quarantine)
    probability = {row["path"]: row["probability"] for row in rows(undisturbed.predictions)}
    assert {row["path"]: row["probability"] for row in rows(tables.predictions)} == pytest.approx(probability, abs=1e-6)


@pytest.mark.tensorflow
def test_train(way: Way, tables: Tables, tmp_path: Path) -> None:
    prepared = ("--prepared", way.tables.prepared)
    args = (*prepared, "--bundle", tables.bundle, "--batch-size", 8, "--threshold", "0.5", "--epochs", 4)
    with job("train", tmp_path / "job", *args) as killed:
        assert killed.killed_when(lambda: "Epoch 2/4" in killed.out.read_text())
    assert "Epoch 4/4" not in killed.out.read_text() and not (tables.bundle / "bundle.json").exists()

    assert list((tables.bundle / "_checkpoint").iterdir())
    again = tables.train(*prepared, "--epochs", 4)
    assert 1 <= again["resumed_after"] <= 2 and not list((tables.bundle / "_checkpoint").iterdir())
    undisturbed = Tables(tmp_path / "undisturbed")
    whole = undisturbed.train(*prepared, "--epochs", 4)
    assert whole["resumed_after"] == 0 and len(set(again["epoch_rows"] + whole["epoch_rows"])) == 1
    assert again["epochs"] == whole["epochs"] == 4
    assert again["validation"] == pytest.approx(whole["validation"], abs=1e-3)
    np.testing.assert_allclose(
        probabilities(tables.bundle, way), probabilities(undisturbed.bundle, way), rtol=0, atol=1e-3
    )
    assert tables.train(*prepared, "--epochs", 4)["epochs"] == 0  # the bundle's presence is its commit


def probabilities(bundle: Path, way: Way) -> np.ndarray:
    """Of a bundle's model for every prepared image, in the order of their ids."""
    import keras

    assert json.loads((bundle / "bundle.json").read_text())["model_id"]
    prepared = sorted(rows(way.tables.prepared), key=lambda row: row["image_id"])
    pixels = np.stack([np.frombuffer(row["pixels"], np.uint8).reshape(SIDE, SIDE, 1) for row in prepared])
    return np.asarray(keras.models.load_model(bundle / "model.keras", compile=False)(pixels))
