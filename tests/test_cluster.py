"""A real standalone cluster on loopback: jobs sent from another folder to workers that have nothing of this project."""

import contextlib
import json
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import SHARES, SPEC, Tables, Way, content, rows
from processes import PATIENCE, SPARK_HOME, Job, environment, job, wait_for

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


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@contextlib.contextmanager
def daemon(folder: Path, kind: str, *args: object) -> "Iterator[subprocess.Popen[bytes]]":
    """A master or a worker of Spark, in an environment without this checkout; ended by its own pid."""
    folder.mkdir(parents=True)
    env = environment(HOME=str(folder), SPARK_WORKER_DIR=str(folder / "work"))
    for name in ("PYTHONPATH", "OLDPWD", "PWD", "PNEUMOSPARK_PATIENT_KEY", "PNEUMOSPARK_DATA"):
        env.pop(name, None)
    command = [SPARK_HOME / "bin" / "spark-class", f"org.apache.spark.deploy.{kind}", "--host", "127.0.0.1", *args]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(list(map(str, command)), stdout=log, stderr=log, cwd=folder, env=env)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(30)


def alive_workers(port: int) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/", timeout=5) as answer:
            return int(json.load(answer)["aliveworkers"])
    except OSError:
        return 0


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The master's URL and the folder below which the workers live: two of them, one core each."""
    folder, port, ui = tmp_path_factory.mktemp("cluster"), free_port(), free_port()
    url = f"spark://127.0.0.1:{port}"
    with contextlib.ExitStack() as running:
        running.enter_context(daemon(folder / "master", "master.Master", "--port", port, "--webui-port", ui))
        for name in ("one", "two"):
            small = ("--cores", 1, "--memory", "1g", "--webui-port", 0)
            running.enter_context(daemon(folder / name, "worker.Worker", *small, url))
        wait_for(lambda: alive_workers(ui) == 2, (folder / "one" / "log").read_text)
        yield url, folder


def options(url: str) -> tuple[str, ...]:
    quick = "spark.executor.extraJavaOptions=-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m"
    return "--master", url, "--executor-memory", "700m", "--conf", quick


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
