"""Several tasks at once: they hear each other, and what goes wrong is said."""

import json

import pytest
from pyspark.sql import SparkSession

from pneumospark.errors import ConfigError, LostRowsError, TrainingError
from pneumospark.tables.barrier import on_workers, slots

pytestmark = pytest.mark.spark


def test_each_hears_what_all_say_and_the_first_returns(spark: SparkSession) -> None:
    def work(worker) -> bytes:
        numbers = worker.gather(str(10 * worker.index))
        return json.dumps([worker.index, numbers, len(set(worker.addresses)), worker.cpus]).encode()

    assert json.loads(on_workers(spark, 2, work)) == [0, ["0", "10"], 2, 1]


def test_more_workers_than_slots_are_refused(spark: SparkSession) -> None:
    assert slots(spark) == 2
    with pytest.raises(ConfigError, match=r"--workers 3: expected room for 3 tasks at once .* the cluster has 2"):
        on_workers(spark, 3, lambda worker: b"", patience=0)


def test_an_error_of_a_worker_is_the_error_of_the_job(spark: SparkSession) -> None:
    def work(worker) -> bytes:
        if worker.index:
            raise LostRowsError("split train: expected 30 rows in an epoch")
        worker.gather("waiting for the other, which never comes")
        return b""

    with pytest.raises(TrainingError, match=r"--workers 2: a worker failed: .*LostRowsError: split train: expected 30"):
        on_workers(spark, 2, work)
