"""Images on S3, predictions on HDFS: a worker is killed, then the driver, and a second run ends what they began."""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path

import images
import numpy as np
import pyarrow.parquet as pq
import pytest
import servers
from conftest import Way
from processes import ROOT, job, wait_for
from pyspark.sql import SparkSession
from standalone import Standalone, options, standalone

from pneumospark.io.files import Store, plain

pytestmark = [pytest.mark.cluster, pytest.mark.stores, pytest.mark.spark, pytest.mark.tensorflow]

BUCKET, TASKS = "xray", 24
GOOD = 32 * TASKS


class Hospital:
    """A cluster of two workers, an S3 server with the images, and an HDFS for the tables."""

    def __init__(self, cluster: Standalone, s3: servers.S3, hdfs: servers.Hdfs) -> None:
        self.cluster, self.s3, self.tables = cluster, s3, f"{hdfs.uri}/tables"
        self.store = Store()

    def table(self, name: str) -> str:
        return f"{self.tables}/{name}"

    def found(self, name: str, *pattern: str) -> list[str]:
        at = self.table(name)
        return list(self.store.filesystem(at).glob("/".join((plain(at), *pattern))))

    def rows(self, name: str) -> list[dict[str, object]]:
        """Of whole runs alone, by plain pyarrow."""
        read = self.store.filesystem(self.tables).cat_file
        files = self.found(name, "run_id=*", "*.parquet")
        return [row for path in files for row in pq.read_table(BytesIO(read(path))).to_pylist()]


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
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.key)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.secret)
        monkeypatch.setenv("AWS_ENDPOINT_URL", s3.endpoint)
        yield Hospital(cluster, s3, hdfs)


def test_every_image_is_scored_once(hospital: Hospital, way: Way, tmp_path: Path) -> None:
    source = f"s3a://{BUCKET}/night"
    account = {"key": hospital.s3.key, "secret": hospital.s3.secret, "endpoint_url": hospital.s3.endpoint}
    bucket = Store({"s3a": account})
    wide = images.ramp(300, 300) // 2
    files = {f"{source}/{n:04d}.png": images.png(np.roll(wide, n)) for n in range(GOOD)}
    files |= {f"{source}/broken.png": images.png(wide)[:300], f"{source}/text.png": images.TEXT}
    for path, data in files.items():
        bucket.put(path, data)

    predictions = ("--predictions", hospital.table("predictions"), "--quarantine", hospital.table("quarantine"))
    args = ("--source", source, "--bundle", way.tables.bundle, *predictions)
    jars = f"{servers.IVY / 'jars'}/*"
    s3a = ("--load-spark-defaults", f"--properties-file={ROOT / 'conf' / 's3a.conf'}", "--conf=spark.jars.packages=")
    s3a += (f"--conf=spark.driver.extraClassPath={jars}", f"--conf=spark.executor.extraClassPath={jars}")
    submit = (*options(hospital.cluster.url), *s3a, "--conf", f"spark.default.parallelism={TASKS}")

    def committed() -> int:
        return len(hospital.found("predictions", "run_id=*", "_temporary", "0", "task_*"))

    with job("score", tmp_path / "killed", *args, options=submit) as running:
        wait_for(lambda: committed() >= 2 or running.process.poll() is not None, running.said)
        hospital.cluster.workers[0].kill()
        assert (before := committed()) < TASKS, "the worker was killed too late"
        assert running.killed_when(lambda: committed() >= before + 3), "the driver was killed too late"
        assert "Lost executor" in running.said(), running.said()
    assert committed() < TASKS
    assert hospital.rows("predictions") == [] == hospital.rows("quarantine")

    with job("score", tmp_path / "again", *args, options=submit) as running:
        summary = running.summary()
    assert (summary["files"], summary["images"], summary["quarantined"]) == (len(files), GOOD, 2)
    scored, refused = hospital.rows("predictions"), hospital.rows("quarantine")
    assert Counter(str(row["path"]) for row in (*scored, *refused)) == Counter(list(files))
    assert sorted(str(row["reason"]) for row in refused) == ["not_an_image", "truncated"]
    assert len({row["model_id"] for row in scored}) == 1

    with job("score", tmp_path / "third", *args, options=submit) as running:
        assert (summary := running.summary())["known"] == len(files) and summary["images"] == 0
