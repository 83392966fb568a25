"""Jobs as processes of their own, as a user starts them: `spark-submit`, waited for or killed."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyspark
from servers import QUICK_JAVA

ROOT = Path(__file__).parents[1]
SPARK_HOME = Path(pyspark.__file__).parent
SETTINGS = {
    "spark.driver.memory": "1g",
    # The code that Java's first compiler makes is large.
    "spark.driver.extraJavaOptions": f"{QUICK_JAVA} -XX:ReservedCodeCacheSize=240m",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.sql.shuffle.partitions": "2",
    # Compiling a small query costs more than running it.
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
}
SMALL = [part for key, value in SETTINGS.items() for part in ("--conf", f"{key}={value}")]
PATIENCE = 300
"""Seconds until a job that should have got somewhere is given up."""


def environment(**more: str) -> dict[str, str]:
    """This process's environment with nothing of Spark's in it but what is given."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("SPARK_", "PYSPARK_"))}
    bin_folder = str(Path(sys.executable).parent)
    return ours | {"PATH": f"{bin_folder}:{ours['PATH']}", "SPARK_LOCAL_IP": "127.0.0.1"} | more


class Job:
    """A running `spark-submit script args`, the leader of a process group of its own."""

    def __init__(self, script: Path, args: tuple[object, ...], folder: Path, *options: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.out, self.err = folder / "out", folder / "err"
        command = [SPARK_HOME / "bin" / "spark-submit", *SMALL, *options, script, *args]
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(
                [str(part) for part in command],
                stdout=out,
                stderr=err,
                cwd=folder,
                env=environment(PYTHONPATH=str(ROOT), PYTHONUNBUFFERED="1"),
                start_new_session=True,
            )

    def said(self) -> str:
        return f"{self.out.read_text()}\n{self.err.read_text()}"

    def summary(self) -> dict[str, Any]:
        """Wait for a good end; the line of JSON that the job printed last."""
        assert self.process.wait(PATIENCE) == 0, self.said()
        found: dict[str, Any] = json.loads(self.out.read_text().splitlines()[-1])
        return found

    def killed_when(self, reached: Callable[[], bool]) -> bool:
        """kill -9 the whole group as soon as a state is reached; False where the job ended well before."""
        wait_for(lambda: reached() or self.process.poll() is not None, self.said)
        self.kill()
        ended = self.process.wait(PATIENCE)
        assert ended in (0, -signal.SIGKILL), self.said()
        return ended != 0

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)


@contextlib.contextmanager
def job(name: str, folder: Path, *args: object, options: tuple[str, ...] = ("--master", "local[2]")) -> Iterator[Job]:
    """jobs/NAME.py, started; nothing of it lives on afterwards."""
    running = Job(ROOT / "jobs" / f"{name}.py", args, folder, *options)
    try:
        yield running
    finally:
        running.kill()


def wait_for(reached: Callable[[], object], explain: Callable[[], str] = str) -> None:
    """Poll every few milliseconds; fails after PATIENCE."""
    end = time.monotonic() + PATIENCE
    while not reached():
        assert time.monotonic() < end, f"not reached within {PATIENCE} s: {explain()}"
        time.sleep(0.005)
