"""`train --workers N`: the training loop in N tasks of Spark, which learn one network together."""

from dataclasses import replace
from functools import partial
from typing import Any

from pneumospark.config import TrainConfig
from pneumospark.io import bundle
from pneumospark.io.files import scratch_folder
from pneumospark.io.session import session
from pneumospark.labels import NORMAL, PNEUMONIA
from pneumospark.tables.barrier import Worker, on_workers


def train_on_workers(
    config: TrainConfig, model: Any, feeds: tuple[Any, Any], checkpoint: bundle.Checkpoint
) -> tuple[dict[str, list[float]], list[int]]:
    """Give `model` the weights that `config.workers` tasks of Spark learn; the history, and the rows of each epoch."""
    from pneumospark.io.dataset import Shard
    from pneumospark.learn.resume import packed, unpacked

    for feed in feeds:  # raises where batches are too small, here and not on an executor
        replace(feed, shard=Shard(0, config.workers)).batches(config.batch_size)
    spark = session("train")
    model.save(local := scratch_folder() / bundle.MODEL)
    content = spark.sparkContext.broadcast(local.read_bytes())

    def work(worker: Worker) -> bytes:
        from pneumospark.learn import distributed, trainer
        from pneumospark.learn.memory import keep_freed
        from pneumospark.learn.weights import weighted

        keep_freed()
        strategy = distributed.strategy(worker.index, worker.addresses, worker.cpus)
        saved, rows = checkpoint.saved(), list[int]()
        shard, done = Shard(worker.index, config.workers), trainer.epochs_done(saved)
        training, validation = (replace(feed, shard=shard, done=done, seen=[]) for feed in feeds)
        batches = training.batches(config.batch_size, config.shuffle_rows)
        if config.class_weights == "balanced":
            batches = weighted(batches, training.stock.labels["train"], [NORMAL, PNEUMONIA])
        (scratch := scratch_folder() / bundle.MODEL).write_bytes(content.value)
        learned, history = distributed.train(
            config,
            distributed.Team(strategy, worker.gather),
            partial(bundle.load_model, scratch),
            (batches, validation.batches(config.batch_size)),
            (lambda: rows.append(training.audit(worker.gather)), lambda: validation.audit(worker.gather)),
            trainer.Checkpoint(checkpoint.save, saved),
        )
        return packed({"weights": learned.get_weights()}, {"history": history, "rows": rows})

    (weights,), facts = unpacked(on_workers(spark, config.workers, work), "weights")
    model.set_weights(weights)
    return facts["history"], facts["rows"]
