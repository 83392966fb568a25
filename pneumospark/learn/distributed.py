"""Training on several workers at once: each takes its part of each batch, and all of them make the same step."""

import json
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from pneumospark.config import TrainConfig
from pneumospark.errors import TrainingError
from pneumospark.learn.augment import augmentation
from pneumospark.learn.network import freeze
from pneumospark.learn.phases import phases
from pneumospark.learn.precision import computing_in, policy
from pneumospark.learn.resume import Resume, restart
from pneumospark.learn.trainer import Checkpoint, History, epochs_done, optimizer

Gather = Callable[[str], list[str]]
"""Tells all workers what each of them says, in their order; returns when all have said something."""


class Team(NamedTuple):
    """What this worker shares with the others."""

    strategy: tf.distribute.Strategy
    gather: Gather


APART = 1_000_003
"""Between the seeds of two workers' augmentation: more than the seeds that a recipe's layers take."""


def strategy(index: int, addresses: Sequence[str], threads: int) -> tf.distribute.Strategy:
    """This process as one worker of several (each host:port, in their order); on its first GPU where it has any.

    TensorFlow wants to know before it is used for anything else, so this comes first in a process of its own.
    """
    task = {"type": "worker", "index": index}
    os.environ["TF_CONFIG"] = json.dumps({"cluster": {"worker": list(addresses)}, "task": task})
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.set_visible_devices(tf.config.list_physical_devices("GPU")[:1], "GPU")
    return tf.distribute.MultiWorkerMirroredStrategy()


def train(
    recipe: TrainConfig,
    team: Team,
    build: Callable[[], keras.Model],
    data: tuple[tf.data.Dataset, tf.data.Dataset],
    audits: Sequence[Callable[[], object]],
    checkpoint: Checkpoint,
) -> tuple[keras.Model, History]:
    """As `trainer.train`, on this worker's part of the training and validation `data`; the same result on each worker.

    All parts have equally many batches. A step's loss is the mean over the rows of all parts, so that it is the step
    that one worker would make with the parts as one batch; but batch normalisation takes the figures of each part, and
    each worker draws random changes of its own. Keras `fit` fails under this strategy, its callbacks do not.
    """
    together, gather = team
    index = together.cluster_resolver.task_id
    state, history = checkpoint.saved, dict[str, list[float]]()

    def save(content: bytes) -> None:
        nonlocal state
        state = content
        if index == 0:
            checkpoint.save(content)

    keras.utils.set_random_seed(recipe.seed)
    with together.scope():
        network = build()
    is_augmented = recipe.augment != "none" and len(network.input_shape) == 4
    seed, shape = recipe.seed + APART * index, network.input_shape[1:]
    augment = augmentation(recipe.augment, shape, seed, recipe.augment_without) if is_augmented else None
    with computing_in(policy(recipe.precision), network):
        for phase in phases(recipe, epochs_done(state)):
            resume = Resume(recipe.seed, phase.schedule, save, state, phase.first)
            with together.scope():
                if recipe.head_epochs:
                    freeze(network, phase.frozen)
                network.compile(optimizer(recipe, phase.rate))
                network.optimizer.build(network.trainable_variables)
            step, look = _step(together, network, augment, recipe), _look(network, recipe)
            callbacks = keras.callbacks.CallbackList([*phase.schedule, resume], model=network)
            network.stop_training = False
            callbacks.on_train_begin()
            for epoch in range(phase.last if resume.stopped else resume.epochs, phase.last):
                callbacks.on_epoch_begin(epoch)
                if augment:
                    restart(augment, seed, epoch)
                logs = _over_all(step, data[0], gather)
                logs |= {f"val_{name}": value for name, value in _over_all(look, data[1], gather).items()}
                for audit in audits:
                    audit()
                if not np.isfinite(logs["loss"]):
                    raise TrainingError(f"train: the loss is no number after {epoch + 1} epochs; lower --learning-rate")
                callbacks.on_epoch_end(epoch, logs)
                if network.stop_training:
                    break
            callbacks.on_train_end()
            history = resume.history
    return network, history


Batch = Callable[..., tuple[Any, Any]]  # x, y, weights or none, of this worker: its losses' sum, probabilities (n, 1)


def _step(together: tf.distribute.Strategy, network: keras.Model, augment: Any, recipe: TrainConfig) -> Batch:
    losses = keras.losses.BinaryCrossentropy(label_smoothing=recipe.label_smoothing, reduction="sum")

    def one(x: Any, y: Any, weights: Any = None) -> tuple[Any, Any]:
        replica = tf.distribute.get_replica_context()
        rows = replica.all_reduce(tf.distribute.ReduceOp.SUM, tf.cast(tf.shape(y)[0], tf.float32))
        with tf.GradientTape() as tape:
            probability = network(augment(x, training=True) if augment else x, training=True)
            loss = losses(y[:, None], probability, weights)
            penalty = _penalty(network)
            mine = loss / rows + penalty / together.num_replicas_in_sync
        gradients = tape.gradient(mine, network.trainable_variables)
        network.optimizer.apply(gradients, network.trainable_variables)  # it sums them over the workers
        return loss + tf.cast(tf.shape(y)[0], tf.float32) * penalty, probability

    return tf.function(lambda *batch: together.run(one, batch), reduce_retracing=True)  # type: ignore[no-any-return]


def _look(network: keras.Model, recipe: TrainConfig) -> Batch:
    losses = keras.losses.BinaryCrossentropy(label_smoothing=recipe.label_smoothing, reduction="sum")

    def one(x: Any, y: Any) -> tuple[Any, Any]:
        probability = network(x, training=False)
        return losses(y[:, None], probability) + tf.cast(tf.shape(y)[0], tf.float32) * _penalty(network), probability

    return tf.function(one, reduce_retracing=True)  # type: ignore[no-any-return]


def _penalty(network: keras.Model) -> Any:
    """What L1 and L2 add to the loss of each row, as Keras' own loop reports it."""
    return tf.add_n(network.losses) if network.losses else 0.0


def _over_all(batch: Batch, data: tf.data.Dataset, gather: Gather) -> dict[str, float]:
    """A pass over the data of all workers: mean loss and area under the curve of their rows together."""
    loss, rows, auc = 0.0, 0, keras.metrics.AUC(name="auc")
    for x, y, *weights in data:
        losses, probability = batch(x, y, *weights)
        loss, rows = loss + float(losses), rows + len(y)
        auc.update_state(y, probability)
    said = json.dumps([loss, rows, [np.asarray(variable).tolist() for variable in auc.variables]])
    losses_of_all, rows_of_all, counts = zip(*map(json.loads, gather(said)), strict=True)
    for variable, of_all in zip(auc.variables, zip(*counts, strict=True), strict=True):
        variable.assign(np.sum(of_all, axis=0))
    return {"loss": sum(losses_of_all) / sum(rows_of_all), "auc": float(auc.result())}
