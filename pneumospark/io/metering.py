"""What a run has read and how long it took: bytes of source files and of tables, and seconds by stage."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import takewhile
from threading import Lock

from py4j.protocol import Py4JJavaError
from pyspark import Accumulator
from pyspark.sql import SparkSession

_ADDING = Lock()


class Meter:
    """Counts from now on; `read` is the reader of files that it was given, counted, for driver and executors alike.

    A task that Spark has to repeat counts again, as it reads again.
    """

    def __init__(self, spark: SparkSession, read: Callable[[str], bytes]) -> None:
        self._spark, total = spark, spark.sparkContext.accumulator(0)
        # The last stage of the jobs before, in the same session.
        self._before = next((stage for stage, _ in _input_bytes(spark)), -1)
        self._total = total

        def counted(path: str) -> bytes:
            content = read(path)
            _add(total, len(content))
            return content

        self.read = counted

    def counts(self) -> dict[str, int]:
        """`file_bytes` and `table_bytes` read so far, for a job's summary."""
        of_run = takewhile(lambda found: found[0] > self._before, _input_bytes(self._spark))
        return {"file_bytes": self._total.value, "table_bytes": sum(read for _, read in of_run)}


class Stopwatch:
    """Seconds by stage: `with stopwatch("listing"): ...`; what lies between the stages is "other"."""

    def __init__(self) -> None:
        self._started, self._stages = time.monotonic(), dict[str, float]()

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Add the block's seconds to a stage."""
        started = time.monotonic()
        try:
            yield
        finally:
            self._stages[stage] = self._stages.get(stage, 0.0) + time.monotonic() - started

    def seconds(self) -> dict[str, float]:
        """So far, in the order in which the stages began, with one decimal."""
        other = time.monotonic() - self._started - sum(self._stages.values())
        return {name: round(seconds, 1) for name, seconds in (self._stages | {"other": other}).items()}


def _add(total: Accumulator[int], count: int) -> None:
    """Add to an accumulator, which threads must not do at once: Spark's is a plain sum."""
    with _ADDING:
        total.add(count)


def boot_seconds(spark: SparkSession) -> float:
    """Seconds that Java, and then Python, took before Spark began to start."""
    java = spark._jvm.java.lang.management.ManagementFactory.getRuntimeMXBean()  # type: ignore[union-attr]
    return float(spark.sparkContext.startTime - java.getStartTime()) / 1000


def _input_bytes(spark: SparkSession) -> Iterator[tuple[int, int]]:
    """Bytes that tasks have read from tables, or again from memory: of the last 1,000 stages, by id, the latest first.

    Each attempt of a stage for itself. One by one, since to ask for a thousand takes seconds, and a run has dozens.

    Spark's own input metrics; they do not see what Python workers read themselves. It forgets older stages
    (spark.ui.retainedStages): so a run sums up its own, and does not subtract what was there before.
    """
    context = spark.sparkContext._jsc.sc()
    with suppress(Py4JJavaError):  # ten seconds behind: the figure is then too small, and no reason to fail
        context.listenerBus().waitUntilEmpty()
    quantiles = spark.sparkContext._gateway.new_array(spark._jvm.double, 0)  # type: ignore[union-attr]
    stages = context.statusStore().stageList(None, False, False, quantiles, None)
    for place in range(stages.size()):
        stage = stages.apply(place)
        yield stage.stageId(), stage.inputBytes()
