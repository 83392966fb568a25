"""Images on S3, predictions on HDFS: a worker is killed, then the driver, and a second run ends what they began."""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import images
import numpy as np
import pytest
import servers
from conftest import Way, rows
from processes import ROOT, job, wait_for
from pyspark.sql import SparkSession
from standalone import Standalone, options, standalone

from pneumospark.io.files import Store, plain

pytestmark = [pytest.mark.cluster, pytest.mark.stores, pytest.mark.spark, pytest.mark.tensorflow]

BUCKET, TASKS = "xray", 24
GOOD = 32 * TASKS


class Hospital(NamedTuple):
    """A cluster of two workers, an S3 server with the images, and an HDFS for the tables."""

    cluster: Standalone
    s3: servers.S3
    tables: str

    def table(self, name: str) -> str:
        return f"{self.tables}/{name}"

    def committed(self) -> int:
        """Tasks of an unfinished run of predictions that have handed in their file."""
        at = self.table("predictions")
        return len(Store().filesystem(at).glob(f"{plain(at)}/run_id=*/_temporary/0/task_*"))

    def has_run(self, name: str) -> bool:
        """Whether a run is there to be seen: its files lie in the folder itself, no longer below `_temporary`."""
        at = self.table(name)
        return bool(Store().filesystem(at).glob(f"{plain(at)}/run_id=*/*.parquet"))


@pytest.fixture
def hospital(spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hospital]:
    try:  # Spark is up before this process has drivers' threads: its Java could not be forked after
        servers.fetch_jars(*servers.S3A)
        jar = servers.fetch_jars(*servers.MINICLUSTER)
    except servers.NoJarsError as error:
        pytest.skip(str(error))
    for name in ("s3", "hdfs"):
        (tmp_path / name).mkdir()
    with ExitStack() as running:
        s3 = running.enter_context(servers.s3_server(tmp_path / "s3", BUCKET))
        hdfs = running.enter_context(servers.hdfs_servers(tmp_path / "hdfs", jar))
        cluster = running.enter_context(standalone(tmp_path / "cluster"))
        for name, value in s3.environment().items():
            monkeypatch.setenv(name, value)
        yield Hospital(cluster, s3, f"{hdfs.uri}/tables")


def test_every_image_is_scored_once(hospital: Hospital, way: Way, tmp_path: Path) -> None:
    source = f"s3a://{BUCKET}/night"
    wide = images.ramp(300, 300) // 2
    files = {f"{source}/{n:04d}.png": images.png(np.roll(wide, n)) for n in range(GOOD)}
    files |= {f"{source}/broken.png": images.png(wide)[:300], f"{source}/text.png": images.TEXT}
    for path, data in files.items():
        hospital.s3.store().put(path, data)

    predictions = ("--predictions", hospital.table("predictions"), "--quarantine", hospital.table("quarantine"))
    args = ("--source", source, "--bundle", way.tables.bundle, *predictions)
    jars = f"{servers.IVY / 'jars'}/*"
    s3a = ("--load-spark-defaults", f"--properties-file={ROOT / 'conf' / 's3a.conf'}", "--conf=spark.jars.packages=")
    s3a += (f"--conf=spark.driver.extraClassPath={jars}", f"--conf=spark.executor.extraClassPath={jars}")
    submit = (*options(hospital.cluster.url), *s3a, "--conf", f"spark.default.parallelism={TASKS}")

    with job("score", tmp_path / "killed", *args, options=submit) as running:
        wait_for(lambda: hospital.committed() >= 2 or running.process.poll() is not None, running.said)
        hospital.cluster.workers[0].kill()
        assert (before := hospital.committed()) < TASKS, "the worker was killed too late"
        assert running.killed_when(lambda: hospital.committed() >= before + 3), "the driver was killed too late"
        assert "Lost executor" in running.said(), running.said()
    assert hospital.committed() < TASKS
    assert not hospital.has_run("predictions") and not hospital.has_run("quarantine")

    with job("score", tmp_path / "again", *args, options=submit) as running:
        summary = running.summary()
    assert (summary["files"], summary["images"], summary["quarantined"]) == (len(files), GOOD, 2)
    scored, refused = (
        rows(servers.fetch(hospital.table(name), tmp_path / name)) for name in ("predictions", "quarantine")
    )
    assert Counter(str(row["path"]) for row in (*scored, *refused)) == Counter(list(files))
    assert sorted(str(row["reason"]) for row in refused) == ["not_an_image", "truncated"]
    assert len({row["model_id"] for row in scored}) == 1
