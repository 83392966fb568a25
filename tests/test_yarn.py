"""A real YARN in cluster mode: driver and executors have a packed environment and a wheel, and nothing else of ours."""

import json
import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import servers
from conftest import Way, rows
from processes import ROOT, SMALL, SPARK_HOME, environment
from yarn import Yarn, yarn_servers

from pneumospark.io.files import Store
from pneumospark.io.run import FEW
from pneumospark.schemas import PREDICTIONS

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.stores,
    pytest.mark.spark,
    pytest.mark.tensorflow,
    pytest.mark.skipif(not os.environ.get("PNEUMOSPARK_YARN"), reason="2.5 GB and minutes: PNEUMOSPARK_YARN=1"),
]

MEGABYTES = 6000
"""Of the node: driver and executor, each with 600 MB for Java, and TensorFlow in Python beside it."""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that `make package` makes: environment.tar and the wheel."""
    if sys.prefix == sys.base_prefix:
        pytest.skip("this Python is in no virtual environment that could be packed")
    folder = tmp_path_factory.mktemp("package")
    done = subprocess.run(
        ["sh", ROOT / "conf" / "package.sh", folder], env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Yarn]]:
    """The URI of an HDFS, and a YARN on it."""
    folder = tmp_path_factory.mktemp("yarn")
    try:
        with (
            servers.hdfs_servers(folder / "hdfs", servers.fetch_jars(*servers.MINICLUSTER)) as hdfs,
            yarn_servers(folder / "yarn", hdfs.uri, MEGABYTES) as yarn,
        ):
            yield hdfs.uri, yarn
    except servers.NoJarsError as error:
        pytest.skip(str(error))


def scored(yarn: Yarn, package: Path, places: dict[str, str], *settings: str) -> dict[str, Any]:
    """The summary of a run of jobs/score.py in YARN's cluster mode, from and into `places`."""
    before = set(yarn.logs.glob("application_*"))
    done = submit(yarn, package, settings, *(part for name, uri in places.items() for part in (f"--{name}", uri)))
    (application,) = {path.name for path in set(yarn.logs.glob("application_*")) - before}
    said = yarn.said(application, "stdout")  # of the driver: the line of JSON is its last
    assert done.returncode == 0, done.stderr + said
    summary: dict[str, Any] = json.loads(re.findall(r'^{"job": "score".*}$', said, re.M)[-1])
    return summary


def submit(yarn: Yarn, package: Path, more: tuple[str, ...], *args: str) -> "subprocess.CompletedProcess[str]":
    """jobs/score.py in YARN's cluster mode, with `more` settings."""
    here = {f"spark.{kind}.{name}": value for kind in ("yarn.appMasterEnv", "executorEnv") for name, value in LOCAL}
    settings = {
        "spark.executor.instances": "1",
        "spark.executor.cores": "2",
        "spark.pyspark.python": "./environment/bin/python",
        "spark.yarn.maxAppAttempts": "1",
        "spark.yarn.jars": f"local:{SPARK_HOME}/jars/*",  # every node has Spark
        **MEMORY,
        **here,
    }
    (wheel,) = package.glob("*.whl")
    command = [SPARK_HOME / "bin" / "spark-submit", "--master", "yarn", "--deploy-mode", "cluster", *SMALL, *more]
    command += [part for key, value in settings.items() for part in ("--conf", f"{key}={value}")]
    command += ["--archives", f"{package}/environment.tar#environment", "--py-files", wheel]
    command += [ROOT / "jobs" / "score.py", *args]
    env = environment(HADOOP_CONF_DIR=str(yarn.conf), PYTHONPATH="")
    return subprocess.run(list(map(str, command)), env=env, capture_output=True, text=True, timeout=500, check=False)


LOCAL = (("SPARK_LOCAL_IP", "127.0.0.1"), ("SPARK_LOCAL_HOSTNAME", "localhost"))
MEMORY = {
    "spark.driver.memory": "600m",
    "spark.driver.memoryOverhead": "1600m",
    "spark.executor.memory": "600m",
    "spark.executor.memoryOverhead": "2200m",  # of two tasks, as `doctor` and the README say
}


def upload(folder: Path, uri: str) -> None:
    """All files below a folder, to below a URI."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    with ThreadPoolExecutor(8) as threads:  # to close a file on HDFS takes half a second
        list(threads.map(lambda path: Store().put(f"{uri}/{path.relative_to(folder)}", path.read_bytes()), files))


def test_the_packed_environment_holds_nothing_of_this_package(package: Path) -> None:
    with tarfile.open(package / "environment.tar") as archive:
        names = [member.name for member in archive]
    assert "bin/python" in names and any("/tensorflow/__init__.py" in name for name in names)
    assert [name for name in names if "pneumospark" in name or "site-packages/pyspark/" in name] == []


def test_score_in_cluster_mode_gives_what_one_machine_gives(
    nodes: tuple[str, Yarn], package: Path, way: Way, tmp_path: Path
) -> None:
    hdfs, yarn = nodes
    upload(way.corpus, f"{hdfs}/source")
    upload(way.tables.bundle, f"{hdfs}/bundle")
    places = {name: f"{hdfs}/{name}" for name in ("source", "bundle", "predictions", "quarantine")}
    equals(way, scored(yarn, package, places), places, tmp_path)


def test_score_in_cluster_mode_reads_images_on_s3(
    nodes: tuple[str, Yarn], package: Path, way: Way, tmp_path: Path
) -> None:
    hdfs, yarn = nodes
    with servers.s3_server(tmp_path, "hospital") as s3:
        for file in filter(Path.is_file, way.corpus.rglob("*")):
            s3.store().put(f"s3a://hospital/night/{file.relative_to(way.corpus)}", file.read_bytes())
        upload(way.tables.bundle, f"{hdfs}/bundle-s3")
        places = {name: f"{hdfs}/{name}-s3" for name in ("bundle", "predictions", "quarantine")}
        places["source"] = "s3a://hospital/night"
        keys = tmp_path / "keys.conf"  # a file, since a command line can be read by all
        account = {"access.key": s3.key, "secret.key": s3.secret, "endpoint": s3.endpoint, "path.style.access": "true"}
        keys.write_text("".join(f"spark.hadoop.fs.s3a.{key} {value}\n" for key, value in account.items()))
        summary = scored(yarn, package, places, "--load-spark-defaults", f"--properties-file={keys}")
    equals(way, summary, places, tmp_path)


def test_a_job_that_found_something_fails_in_its_one_attempt(nodes: tuple[str, Yarn], package: Path, way: Way) -> None:
    """A second one would find all known, and end well."""
    hdfs, yarn = nodes
    for number in range(FEW):
        Store().put(f"{hdfs}/source-bad/{number}.png", b"no image")
    upload(way.tables.bundle, f"{hdfs}/bundle-bad")
    places = {name: f"{hdfs}/{name}-bad" for name in ("source", "bundle", "predictions", "quarantine")}
    before = set(yarn.logs.glob("application_*"))
    done = submit(yarn, package, (), *(part for name, uri in places.items() for part in (f"--{name}", uri)))
    (application,) = set(yarn.logs.glob("application_*")) - before
    said = yarn.said(application.name, "stdout")
    assert done.returncode == 1 and "User application exited with status 3" in done.stderr, done.stderr + said
    summaries = re.findall(r'^{"job": "score".*}$', said, re.M)
    assert [json.loads(summary)["exit_code"] for summary in summaries] == [3]
    attempts = {path.name.split("_")[-2] for path in application.glob("container_*")}
    assert attempts == {"01"}


def equals(way: Way, summary: dict[str, Any], places: dict[str, str], folder: Path) -> None:
    """A run's counts, model and probabilities are those of the same files scored on one machine."""
    for key in ("images", "model_id"):
        assert summary[key] == way.summaries["score"][key]
    expected = {by_source(row, f"file://{way.corpus}"): row["probability"] for row in rows(way.tables.predictions)}
    found = {by_source(row, places["source"]): row["probability"] for row in fetched(places["predictions"], folder)}
    assert found == pytest.approx(expected, abs=1e-6)


def by_source(row: dict[str, Any], source: str) -> str:
    assert set(PREDICTIONS.names) <= {*row, "run_id"}
    return str(row["path"]).removeprefix(f"{source}/")


def fetched(uri: str, folder: Path) -> list[dict[str, Any]]:
    """The rows of a table on HDFS, each once: a path twice would be an error."""
    found = rows(servers.fetch(uri, folder / "predictions"))
    assert len({row["path"] for row in found}) == len(found)
    return found
