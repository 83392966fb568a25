"""What a run has read: bytes of source files, counted where they are read, and of tables, as Spark counts them."""

from collections.abc import Callable

from pyspark.sql import SparkSession


class Meter:
    """Counts from now on; `read` is the reader of files that it was given, counted, for driver and executors alike.

    A task that Spark has to repeat counts again, as it reads again.
    """

    def __init__(self, spark: SparkSession, read: Callable[[str], bytes]) -> None:
        self._spark, self._before, total = spark, table_bytes(spark), spark.sparkContext.accumulator(0)
        self._total = total

        def counted(path: str) -> bytes:
            content = read(path)
            total.add(len(content))
            return content

        self.read = counted

    def counts(self) -> dict[str, int]:
        """`file_bytes` and `table_bytes` read so far, for a job's summary."""
        return {"file_bytes": self._total.value, "table_bytes": table_bytes(self._spark) - self._before}


def table_bytes(spark: SparkSession) -> int:
    """Bytes that this session's tasks have read from tables, or again from memory, in the last 1,000 stages.

    Spark's own input metrics; they do not see what Python workers read themselves.
    """
    context = spark.sparkContext._jsc.sc()
    context.listenerBus().waitUntilEmpty()
    quantiles = spark.sparkContext._gateway.new_array(spark._jvm.double, 0)  # type: ignore[union-attr]
    stages = context.statusStore().stageList(None, False, False, quantiles, None)
    return sum(stages.apply(place).inputBytes() for place in range(stages.size()))
