"""A real standalone cluster on loopback: jobs sent from another folder to workers that have nothing of this project."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import SHARES, SPEC, Tables, Way, content, rows
from processes import PATIENCE, Job, job
from standalone import options, standalone

from pneumospark.io.backbones import write_spec
from pneumospark.io.files import Store
from pneumospark.spec import ImageSpec

pytestmark = [pytest.mark.cluster, pytest.mark.spark, pytest.mark.tensorflow]

PROBE = '''
"""Where executors find the package."""
import json
from pneumospark.io.session import session

def where(_):
    import os, time
    import pneumospark.pixels.decode, pyspark
    time.sleep(2)  # so that both workers get a task
    return pneumospark.pixels.decode.__file__, os.path.abspath(pyspark.SparkFiles.getRootDirectory())

print(json.dumps(session("probe").sparkContext.range(2, numSlices=2).map(where).collect()))
'''

DYING = '''
"""A worker that dies."""
import json, os, signal, sys
from pathlib import Path
from pneumospark.io.session import session
from pneumospark.tables.barrier import on_workers

died = Path(sys.argv[1])  # the driver's arguments: a worker has others

def work(worker):
    worker.gather("here")
    if worker.index == 1 and not died.exists():
        died.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return json.dumps(worker.gather(str(worker.index))).encode()

print(on_workers(session("dying"), 2, work).decode())
'''


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The master's URL and the folder below which the workers live."""
    folder = tmp_path_factory.mktemp("cluster")
    with standalone(folder) as running:
        yield running.url, folder


def test_executors_run_the_code_of_the_driver_and_not_one_of_their_own(cluster, tmp_path: Path) -> None:
    url, workers = cluster
    (tmp_path / "probe.py").write_text(PROBE)
    probe = Job(tmp_path / "probe.py", (), tmp_path / "elsewhere", *options(url))
    assert probe.process.wait(PATIENCE) == 0, probe.said()
    found = json.loads(probe.out.read_text().splitlines()[-1])
    assert {Path(shipped).relative_to(workers).parts[0] for _, shipped in found} == {"one", "two"}
    assert all(module == f"{shipped}/pneumospark/pixels/decode.py" for module, shipped in found)


def test_jobs_give_on_a_cluster_what_they_give_on_one_machine(cluster, way: Way, tmp_path: Path) -> None:
    url, _ = cluster
    there = Tables(tmp_path / "tables")
    quarantine = ("--quarantine", there.quarantine)
    steps = {
        "ingest": ("--source", way.corpus, "--images", there.images, *quarantine, *SHARES),
        "extract": ("--images", there.images, "--prepared", there.prepared, *SPEC),
        "score": (
            "--source",
            way.corpus,
            "--bundle",
            way.tables.bundle,
            "--predictions",
            there.predictions,
            *quarantine,
        ),
    }
    for name, args in steps.items():
        with job(name, tmp_path / name, *args, options=options(url)) as running:
            ours, theirs = way.summaries[name], running.summary()
            assert {key: theirs[key] for key in ("images", "job")} == {"images": ours["images"], "job": name}
    for table in ("images", "quarantine", "prepared", "predictions"):
        assert content(there.folder / table) == content(way.tables.folder / table), table
    probability = {row["path"]: row["probability"] for row in rows(way.tables.predictions)}
    assert {row["path"]: row["probability"] for row in rows(there.predictions)} == pytest.approx(probability, abs=1e-6)


def test_where_a_worker_dies_the_job_says_so(cluster, tmp_path: Path) -> None:
    (tmp_path / "dying.py").write_text(DYING)
    dying = Job(tmp_path / "dying.py", (tmp_path / "died",), tmp_path / "elsewhere", *options(cluster[0]))
    assert dying.process.wait(PATIENCE) == 1, dying.said()
    assert (tmp_path / "died").exists() and "TrainingError: --workers 2: a worker failed" in dying.said()


def prepared(table: Path, side: int = 96) -> Path:
    """48 images to learn from in two row groups of unequal size, and 16 to validate with."""
    spec, random = ImageSpec(height=side, width=side), np.random.default_rng(0)
    for split, first, count in (("train", 0, 48), ("validation", 48, 16)):
        folder = table / "run_id=r1" / f"split={split}"
        folder.mkdir(parents=True)
        rows = [
            {
                "image_id": hashlib.sha256(str(number).encode()).hexdigest(),
                "patient_id": str(number),
                "label": ("normal", "pneumonia")[number % 2],
                "pixels": random.normal(90 + 60 * (number % 2), 50, side * side).clip(0, 255).astype("u1").tobytes(),
                "spec": spec.fingerprint(),
            }
            for number in range(first, first + count)
        ]
        pq.write_table(pa.Table.from_pylist(rows), folder / "part-0.parquet", row_group_size=32)
    write_spec(f"file://{table}", spec.fingerprint(), spec, Store())
    return table


def test_two_workers_learn_what_one_learns_also_after_a_kill(cluster, tables: Tables, tmp_path: Path) -> None:
    """The same batches, of 16 rows or of two times 8, for a network without batch normalisation and dropout."""
    recipe = ("--network", "published", "--augment", "none", "--epochs", 4, "--batch-size", 16, "--shuffle-rows", 0)
    # Not Adam, which makes whole steps of gradients that are rounding alone: with it the losses part by per cents.
    recipe += ("--optimizer", "sgd", "--learning-rate", 0.05, "--l2", 1e-3)
    args = ("--prepared", prepared(tmp_path / "prepared"), *recipe, "--threshold", "0.5")
    tables.train(*args)

    def history(bundle: Path) -> dict[str, list[float]]:
        return json.loads((bundle / "bundle.json").read_text())["history"]

    more = (*args, "--workers", 2, "--bundle", tmp_path / "two")
    with job("train", tmp_path / "killed", *more, options=options(cluster[0])) as running:
        assert running.killed_when(lambda: list((tmp_path / "two").glob("_checkpoint/*.npz")))
    with job("train", tmp_path / "again", *more, options=options(cluster[0])) as running:
        summary = running.summary()
    assert 1 <= summary["resumed_after"] < summary["epochs"] == 4
    assert set(summary["epoch_rows"]) == {48}
    alone, together = history(tables.bundle), history(tmp_path / "two")
    assert max(alone["loss"]) - min(alone["loss"]) > 0.01  # it learns
    assert {name: pytest.approx(alone[name], rel=1e-3) for name in ("loss", "val_loss", "auc", "val_auc")} == {
        name: together[name] for name in ("loss", "val_loss", "auc", "val_auc")
    }
