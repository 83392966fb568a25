"""Training: Keras `fit`, in one phase or two, with a schedule, a checkpoint after each epoch, the best weights kept."""

import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from pneumospark.config import TrainConfig
from pneumospark.errors import ConfigError, TrainingError
from pneumospark.learn.augment import augmentation
from pneumospark.learn.network import freeze
from pneumospark.learn.phases import phases
from pneumospark.learn.precision import computing_in, policy
from pneumospark.learn.resume import Resume
from pneumospark.learn.weights import EachBinaryCrossentropy, masked

History = dict[str, list[float]]


class Checkpoint(NamedTuple):
    """Where a training leaves what is needed to go on, and what an earlier one left there."""

    save: Callable[[bytes], None]
    saved: bytes | None


def epochs_done(saved: bytes | None) -> int:
    """How many epochs are behind a checkpoint."""
    return Resume(0, (), NO_CHECKPOINT.save, saved).epochs


NO_CHECKPOINT = Checkpoint(lambda state: None, None)


def train(
    recipe: TrainConfig,
    build: Callable[[], keras.Model],
    training: tf.data.Dataset,
    validation: tf.data.Dataset,
    audits: Sequence[Callable[[], object]],
    checkpoint: Checkpoint = NO_CHECKPOINT,
) -> tuple[keras.Model, History]:
    """The network that `build` makes, trained, from (n, ...) to (n, 1), and its history by epoch.

    `training` and `validation` yield batches of x and y, y float32 (n,) of 0 or 1, n at least one for each of
    `devices`; one pass is one epoch. Batches of `training` may have weights, too. Each of `audits` is called after each
    pass over both and may raise. After each epoch `checkpoint` gets what a later call needs to go on from there; the
    feed must then begin with that epoch, too.
    """
    if recipe.target == "findings":
        training, validation = masked(training), masked(validation)
    state = checkpoint.saved
    history: History = {}

    def save(packed: bytes) -> None:
        nonlocal state
        state = packed
        checkpoint.save(packed)

    keras.utils.set_random_seed(recipe.seed)
    strategy = _strategy(devices(recipe))
    with strategy.scope():
        model = build()
        is_augmented = recipe.augment != "none" and len(model.input_shape) == 4
        learner = _augmented(model, recipe) if is_augmented else model
    with computing_in(policy(recipe.precision), model), warnings.catch_warnings():
        # Keras does not know the length of a pass; whether it was whole is what `audit` says, row by row
        warnings.filterwarnings("ignore", message="Your input ran out of data")
        for phase in phases(recipe, epochs_done(state)):
            resume = Resume(recipe.seed, phase.schedule, save, state, phase.first)
            with strategy.scope():
                if recipe.head_epochs:
                    freeze(model, phase.frozen)
                learner.compile(optimizer(recipe, phase.rate), loss(recipe), metrics=measures(recipe))
            learner.fit(
                training,
                validation_data=validation,
                initial_epoch=phase.last if resume.stopped else resume.epochs,
                epochs=phase.last,
                callbacks=[*_audited(audits), *phase.schedule, *_watchers(recipe), resume],
                shuffle=False,  # the feed does
                verbose="auto" if sys.stdout.isatty() else 2,  # a bar that is redrawn a hundred times fills a log
            )
            history = resume.history
    return model, history


def initial(recipe: TrainConfig, build: Callable[[], keras.Model]) -> keras.Model:
    """The network before its first step: its weights follow from the recipe's seed alone."""
    keras.utils.set_random_seed(recipe.seed)
    return build()


def predict(network: keras.Model, data: tf.data.Dataset) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Truth of 0 and 1, and probabilities of the network as it is, in the order of the data, each (n,).

    Of a network of k outputs both are (n, k), and truth is UNKNOWN where nobody knows. Weights in the data are let be.
    """
    ask, truth, probability = forward(network), [], []
    for x, y, *_ in data:
        probability.append(ask(x))
        truth.append(y.numpy())
    return np.concatenate(truth).astype(np.int64), np.concatenate(probability)


def forward(network: keras.Model) -> Callable[[Any], NDArray[np.float64]]:
    """The network as it is now, from (n, ...) to probabilities (n,), or (n, k) where it has k outputs.

    Compiled, so not for one batch alone.
    """
    compiled = tf.function(lambda x: network(x, training=False), reduce_retracing=True)

    def ask(x: Any) -> NDArray[np.float64]:
        given = np.asarray(compiled(tf.constant(x))).astype(np.float64)
        return given[:, 0] if given.shape[1] == 1 else given

    return ask


def devices(recipe: TrainConfig) -> tuple[str, ...]:
    """The devices that share each batch: those that the recipe names, else all GPUs where there are several, else none.

    Raises ConfigError for a name that TensorFlow does not have.
    """
    known = [device.name.removeprefix("/device:") for device in tf.config.list_logical_devices()]
    for name in recipe.devices:
        if name.removeprefix("/device:") not in known:
            raise ConfigError(f"train.devices: expected some of {', '.join(known)}, got {name!r}")
    all_gpus = tuple(name for name in known if name.startswith("GPU"))
    return recipe.devices or (all_gpus if len(all_gpus) > 1 else ())


def _strategy(names: tuple[str, ...]) -> Any:
    """MirroredStrategy over the named devices, also over a single one, else TensorFlow's default."""
    return tf.distribute.MirroredStrategy(list(names)) if names else tf.distribute.get_strategy()


def _augmented(network: keras.Model, recipe: TrainConfig) -> keras.Model:
    shape = network.input_shape[1:]
    inputs = keras.Input(shape)
    augment = augmentation(recipe.augment, shape, recipe.seed, recipe.augment_without)
    return keras.Model(inputs, network(augment(inputs)), name="training")


def _audited(audits: Sequence[Callable[[], object]]) -> list[keras.callbacks.Callback]:
    return [keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs, audit=audit: audit()) for audit in audits]


def optimizer(recipe: TrainConfig, rate: float) -> keras.optimizers.Optimizer:
    """The optimizer that the recipe names, at its first rate."""
    if recipe.optimizer == "sgd":
        return keras.optimizers.SGD(rate, momentum=0.9, nesterov=True)
    return keras.optimizers.Adam(rate)


def loss(recipe: TrainConfig) -> keras.losses.Loss:
    """What is made small: the mean over images and, of several findings, over all of them, unknown ones as nothing."""
    if recipe.target == "kind":
        return keras.losses.CategoricalCrossentropy(label_smoothing=recipe.label_smoothing)
    if recipe.target == "findings":
        return EachBinaryCrossentropy(recipe.label_smoothing)
    return keras.losses.BinaryCrossentropy(label_smoothing=recipe.label_smoothing)


def measures(recipe: TrainConfig) -> list[keras.metrics.Metric]:
    """What is shown of each epoch besides the loss; of findings nothing, since Keras' areas know no gaps."""
    return [] if recipe.target == "findings" else [keras.metrics.AUC(name="auc")]


def _watchers(recipe: TrainConfig) -> list[keras.callbacks.Callback]:
    """Those that look on, and change nothing but to stop what has gone wrong."""
    boards = [keras.callbacks.TensorBoard(recipe.tensorboard)] if recipe.tensorboard else []
    return [Finite(), *boards]


class Finite(keras.callbacks.Callback):  # type: ignore[misc]
    """Raises TrainingError at a batch with a loss that is no number: an epoch that ends there has lost no rows."""

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Keep the number of the epoch."""
        self.epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Look at the loss."""
        if not np.isfinite((logs or {}).get("loss", 0.0)):
            raise TrainingError(f"train: the loss is no number after {self.epoch} epochs; lower --learning-rate")
