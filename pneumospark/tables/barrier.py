"""Work that several executors do together, at the same time: a barrier stage, in which they know each other."""

import re
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from py4j.protocol import Py4JJavaError
from pyspark import BarrierTaskContext
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from pneumospark.errors import ConfigError, TrainingError

PATIENCE = 60.0
"""Seconds for executors to register, in which a cluster has fewer slots than it will have."""

PYTHON_ERROR = re.compile(r"(?!org\.|java\.|py4j\.|Py4J|Caused)[A-Za-z_][\w.]*(Error|Exception): ")
"""The last line of a traceback, and no line of the JVM's."""


@dataclass(frozen=True)
class Worker:
    """One of several tasks that run at the same time."""

    index: int
    addresses: list[str]  # host and a free port of each, in their order
    gather: Callable[[str], list[str]]  # what each says, to all, in their order; waits for all
    cpus: int


def on_workers(spark: SparkSession, count: int, work: Callable[[Worker], bytes], patience: float = PATIENCE) -> bytes:
    """Let `count` tasks do `work` at once; what the first of them returned.

    Raises ConfigError where the cluster has no room for all of them at once, TrainingError where one fails: Spark ends
    the others then, and starts none again.
    """
    _wait_for_slots(spark, count, patience)

    def task(_: Iterable[int]) -> Iterator[bytes]:
        context = BarrierTaskContext.get()
        index = context.partitionId()
        host = context.getTaskInfos()[index].address.rpartition(":")[0]
        with socket.socket() as taken:
            taken.bind(("", 0))
            port = taken.getsockname()[1]
        addresses = context.allGather(f"{host}:{port}")
        said = work(Worker(index, addresses, context.allGather, context.cpus()))
        yield said if index == 0 else b""

    try:
        return spark.sparkContext.parallelize(range(count), count).barrier().mapPartitions(task).collect()[0]
    except (PySparkException, Py4JJavaError) as error:
        raise TrainingError(f"--workers {count}: a worker failed: {_cause(str(error))}") from error


def slots(spark: SparkSession) -> int:
    """How many tasks can run at once, of the executors that have registered."""
    context = spark.sparkContext._jsc.sc()
    return int(context.maxNumConcurrentTasks(context.resourceProfileManager().defaultResourceProfile()))


def _wait_for_slots(spark: SparkSession, count: int, patience: float) -> None:
    end = time.monotonic() + patience
    while (found := slots(spark)) < count:
        if time.monotonic() > end:
            raise ConfigError(
                f"--workers {count}: expected room for {count} tasks at once (executors x spark.executor.cores / "
                f"spark.task.cpus), the cluster has {found}"
            )
        time.sleep(0.5)


def _cause(said: str) -> str:
    """What the worker's own Python error says, of all that Spark says around it; else the first line."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return next(filter(PYTHON_ERROR.match, lines), (lines or ["no word of why"])[0])
