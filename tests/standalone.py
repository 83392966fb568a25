"""A real standalone cluster of Spark on loopback: a master and two workers that have nothing of this project."""

import json
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from processes import SETTINGS, SPARK_HOME, environment, wait_for
from servers import QUICK_JAVA, free_ports


class Standalone(NamedTuple):
    """A running cluster: the master's URL and the workers' processes, one core each."""

    url: str
    workers: "list[subprocess.Popen[bytes]]"


def options(url: str) -> tuple[str, ...]:
    """What spark-submit needs for an executor on each worker."""
    quick = f"spark.executor.extraJavaOptions={SETTINGS['spark.driver.extraJavaOptions']}"
    return "--master", url, "--executor-memory", "700m", "--conf", quick


@contextmanager
def standalone(folder: Path) -> Iterator[Standalone]:
    """A master and the workers `one` and `two`, which live below `folder`."""
    port, ui = free_ports(2)
    url = f"spark://127.0.0.1:{port}"
    with ExitStack() as running:
        running.enter_context(_daemon(folder / "master", "master.Master", "--port", port, "--webui-port", ui))
        small = ("--cores", 1, "--memory", "1g", "--webui-port", 0)
        workers = [
            running.enter_context(_daemon(folder / name, "worker.Worker", *small, url)) for name in ("one", "two")
        ]
        wait_for(lambda: _alive_workers(ui) == 2, (folder / "one" / "log").read_text)
        yield Standalone(url, workers)


@contextmanager
def _daemon(folder: Path, kind: str, *args: object) -> "Iterator[subprocess.Popen[bytes]]":
    """A master or a worker, in an environment without this checkout; ended by its own pid."""
    folder.mkdir(parents=True)
    env = environment(HOME=str(folder), SPARK_WORKER_DIR=str(folder / "work"), SPARK_DAEMON_JAVA_OPTS=QUICK_JAVA)
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


def _alive_workers(port: int) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/", timeout=5) as answer:
            return int(json.load(answer)["aliveworkers"])
    except OSError:
        return 0
