"""The Spark session of a job, and how this package's code reaches the executors."""

import os
import sys
import zipfile
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from pyspark import SparkConf, SparkContext
from pyspark.sql import SparkSession

from pneumospark.io import preflight
from pneumospark.io.files import scratch_folder
from pneumospark.io.logs import log

DEFAULTS = {
    # A batch of rows that hold whole images: Spark's own default of 10,000 rows would be gigabytes.
    "spark.sql.execution.arrow.maxRecordsPerBatch": "64",
    # And 64 rows of 100 MB would be 6 GB. A batch ends with the row that passes this.
    "spark.sql.execution.arrow.maxBytesPerBatch": "32m",
    "spark.sql.session.timeZone": "UTC",
    # Spark's own default, INT96, says nothing of UTC to other readers and has no statistics to skip row groups by.
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    # A task writes the folders of all splits at once; with one writer it would first sort its rows, and so the images.
    "spark.sql.maxConcurrentOutputFileWriters": "8",
}
"""Settings that the jobs need; conf/spark-defaults.conf or --conf may set others."""

LOCAL_DEFAULTS = {
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.sql.shuffle.partitions": "8",
    # The executor is this very process. Of one that a machine's sleep made silent for two minutes Spark would say that
    # it is lost, and end the job.
    "spark.storage.blockManagerHeartbeatTimeoutMs": "30d",
}
"""On one machine nothing has to be reachable from outside, and 200 shuffle tasks cost more than they do."""


def session(job: str) -> SparkSession:
    """The running session, or a new one named for the job that has shipped this package to its executors."""
    if running := SparkSession.getActiveSession():
        running.catalog.clearCache()  # what an earlier job in this process kept in memory
        return running
    SparkContext._ensure_initialized()  # from here on SparkConf knows what spark-submit was given
    conf = SparkConf()
    defaults = dict(DEFAULTS)
    if conf.get("spark.master", "local[*]").startswith("local"):
        defaults.update(LOCAL_DEFAULTS)
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)  # on a cluster the nodes' own Python counts
    for key, value in defaults.items():
        conf.setIfMissing(key, value)
    spark = SparkSession.builder.config(conf=conf.setIfMissing("spark.app.name", f"pneumospark {job}")).getOrCreate()
    _ship_package(spark)
    for finding in preflight.cheap(lambda name, default: str(conf.get(name, default))):
        if not finding.ok:
            log.warning("%s: %s", finding.check, finding.said)
    return spark


def ship(spark: SparkSession, folder: Path, name: str) -> None:
    """Unpack a folder of this machine on every executor, as `SparkFiles.get(name)`.

    An archive and not `addFile(recursive=True)`: Spark takes a driver's local folder there only if its master is local.
    Stored and not deflated, since weights get no smaller and a second is lost.
    """
    path = scratch_folder() / f"{name}.zip"
    with zipfile.ZipFile(path, "w", strict_timestamps=False) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder))
    spark.sparkContext.addArchive(f"{path}#{name}")


def _ship_package(spark: SparkSession) -> None:
    """Give executors the driver's own code, so that both sides make the same pixels whatever a node has installed.

    Spark puts the folder of shipped files on its Python workers' path. Unpacked and not as --py-files: Python reads a
    zip on its path anew for every task.
    """
    copy = scratch_folder()
    _copy(files("pneumospark"), copy)
    ship(spark, copy, "pneumospark")


def _copy(source: Traversable, target: Path) -> None:
    """Copy the package's files; a Traversable, since the package itself may have come as a zip."""
    for entry in source.iterdir():
        if entry.is_dir() and entry.name != "__pycache__":
            (target / entry.name).mkdir()
            _copy(entry, target / entry.name)
        elif entry.is_file():
            (target / entry.name).write_bytes(entry.read_bytes())
