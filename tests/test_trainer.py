"""Training: what reaches the bundle, what does not, and that a lost row stops it."""

import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pneumospark.config import TrainConfig
from pneumospark.errors import ConfigError, LostRowsError, TrainingError

pytestmark = pytest.mark.tensorflow
SHAPE = (24, 24, 1)
TWO_DEVICES = """
import tensorflow as tf
halves = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], halves)
import test_trainer
from pneumospark.learn import trainer
data = test_trainer.data()
config = test_trainer.recipe(devices=("CPU:0", "CPU:1"))
replicas = trainer._strategy(config.devices).num_replicas_in_sync
model, history = trainer.train(config, test_trainer.build, data, data, ())
rest = data.unbatch().take(18).batch(8)  # of the last batch each device has one row
model, _ = trainer.train(config, test_trainer.build, rest, rest, ())
assert all(0 < value < 1 for value in trainer.predict(model, rest)[1])
print(replicas, len(history["loss"]), all(loss == loss for loss in history["loss"]))
"""


def data():
    """32 images, of which those of pneumonia are brighter, in batches of 8."""
    import tensorflow as tf

    y = (np.arange(32) % 2).astype(np.float32)
    noise = np.random.default_rng(0).integers(0, 60, (32, *SHAPE))
    return tf.data.Dataset.from_tensor_slices(((noise + 120 * y[:, None, None, None]).astype(np.uint8), y)).batch(8)


def small(shape: tuple[int, ...]) -> Any:
    """What may go wrong with two devices or with a seed, in a network that TensorFlow compiles in no time."""
    import keras
    from keras import layers

    inputs = keras.Input(shape)
    x = layers.BatchNormalization(momentum=0.9)(layers.Rescaling(1 / 255)(inputs))
    x = layers.Dropout(0.1)(layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3, activation="relu")(x)))
    return keras.Model(inputs, layers.Dense(1, activation="sigmoid")(x))


def build() -> Any:
    return small(SHAPE)


def small_finetuned() -> Any:
    """A backbone of one convolution, as of colour, and a head."""
    import keras

    from pneumospark.learn import network

    inputs = keras.Input((24, 24, 3))
    x = keras.layers.Conv2D(4, 3, activation="relu", name="of_backbone")(keras.layers.Rescaling(1 / 255)(inputs))
    return network.finetuned(keras.Model(inputs, x), SHAPE, 0.0)


def recipe(**other: object) -> TrainConfig:
    return TrainConfig(bundle="unused", epochs=1, learning_rate=1e-3, **other)  # type: ignore[arg-type]


def weights(config: TrainConfig) -> list[np.ndarray]:
    from pneumospark.learn import trainer

    return trainer.train(config, build, data(), data(), ())[0].get_weights()


def test_the_same_seed_gives_the_same_network_and_another_seed_another() -> None:
    first, again, other = weights(recipe(seed=3)), weights(recipe(seed=3)), weights(recipe(seed=4))
    for one, two in zip(first, again, strict=True):
        np.testing.assert_allclose(one, two, atol=1e-5)
    assert not np.allclose(first[0], other[0], atol=1e-3)


def test_what_is_learnt_tells_the_classes_apart() -> None:
    from pneumospark.learn import trainer

    config = TrainConfig(bundle="unused", epochs=12, patience=12, learning_rate=3e-3, augment="none")
    model, history = trainer.train(config, build, data(), data(), ())
    truth, probability = trainer.predict(model, data())
    assert probability[truth == 1].min() > probability[truth == 0].max()
    assert history["loss"][-1] < history["loss"][0]


def test_augmentation_is_in_the_training_graph_only() -> None:
    from pneumospark.learn import trainer

    model, _ = trainer.train(recipe(), build, data(), data(), ())
    assert not [layer.name for layer in model.layers if "random" in layer.name or "augment" in layer.name]
    pixels = next(iter(data()))[0]
    assert np.array_equal(model(pixels, training=False), model(pixels, training=False))


@pytest.mark.parametrize("name", ["light", "robust", "published"])
def test_augmentation_keeps_shape_and_range_and_changes_images(name: str) -> None:
    from pneumospark.learn.augment import augmentation

    pixels = np.random.default_rng(0).integers(0, 256, (8, *SHAPE)).astype(np.float32)
    changed = np.asarray(augmentation(name, SHAPE, seed=0)(pixels, training=True))
    assert changed.shape == pixels.shape
    assert changed.min() >= 0
    assert changed.max() <= 255
    assert np.abs(changed - pixels).mean() > 1
    np.testing.assert_allclose(augmentation(name, SHAPE, seed=0)(pixels, training=False), pixels)


@pytest.mark.parametrize("name", ["light", "robust", "published"])
def test_an_augmentation_does_without_any_of_its_parts(name: str) -> None:
    from pneumospark.learn.augment import AUGMENTATIONS, augmentation

    geometry, others = AUGMENTATIONS[name]
    pixels = np.random.default_rng(0).integers(0, 256, (8, *SHAPE)).astype(np.float32)

    def changed(*without: str) -> Any:
        return np.asarray(augmentation(name, SHAPE, seed=3, without=without)(pixels, training=True))

    whole, parts = changed(), [*geometry, *others]
    np.testing.assert_array_equal(changed(), whole)
    for part in parts:
        assert np.abs(changed(part) - whole).max() > 1, part
    np.testing.assert_allclose(changed(*parts), pixels, atol=0.01)
    with pytest.raises(ConfigError, match=f"augment_without: {name} has the parts turn, .*, got blur"):
        changed("blur")


def test_the_help_names_every_part_that_can_be_left_out() -> None:
    from pneumospark.learn.augment import AUGMENTATIONS

    (told,) = (field.metadata["help"] for field in fields(TrainConfig) if field.name == "augment_without")
    parts = {part for each in AUGMENTATIONS.values() for part in (*each.geometry, *each.others)}
    assert set(told.partition(": ")[2].split(", ")) == parts


def test_a_lost_row_stops_the_training_as_what_it_is() -> None:
    from pneumospark.learn import trainer

    def audit() -> None:
        raise LostRowsError("expected 30 rows in an epoch, Petastorm gave 26")

    with pytest.raises(LostRowsError, match="expected 30 rows in an epoch, Petastorm gave 26"):
        trainer.train(recipe(), build, data(), data(), (audit,))


def test_devices_are_those_that_are_named() -> None:
    from pneumospark.learn import trainer

    assert trainer.devices(recipe(devices=("CPU:0",))) == ("CPU:0",)
    assert trainer._strategy(("CPU:0",)).extended.worker_devices[0].endswith("/device:CPU:0")
    with pytest.raises(ConfigError, match=r"train\.devices: expected some of CPU:0.*, got 'TPU:7'"):
        trainer.train(recipe(devices=("CPU:0", "TPU:7")), build, data(), data(), ())


def test_two_devices_share_each_batch() -> None:
    # a process of its own: logical devices must be set before TensorFlow starts
    code = ["-c", TWO_DEVICES]
    result = subprocess.run(
        [sys.executable, *code], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    assert result.stdout.strip().endswith("2 1 True"), result.stderr[-2000:]


def test_a_loss_that_is_no_number_is_an_error() -> None:
    from pneumospark.learn import trainer

    def wrong(x, y):
        return x, y * float("nan")

    def audit() -> None:
        raise LostRowsError("an epoch that is broken off is a short one")

    with pytest.raises(TrainingError, match="the loss is no number after 0 epochs; lower --learning-rate"):
        trainer.train(recipe(), build, data().map(wrong), data(), (audit,))


def test_the_affine_change_moves_a_point_by_no_more_than_it_says() -> None:
    from pneumospark.learn.augment import RandomAffine

    point = np.zeros((64, 41, 41, 1), np.float32)
    point[:, 20, 30] = 255  # ten pixels right of the centre
    moved = np.asarray(RandomAffine(0, zoom=(0.0, 0.2), shift=(0.1, 0.0))(point, training=True))[..., 0]
    rows, columns = np.indices((41, 41))
    mass = moved.sum(axis=(1, 2))
    down, right = (moved * rows).sum(axis=(1, 2)) / mass - 20, (moved * columns).sum(axis=(1, 2)) / mass - 20
    assert np.abs(down).max() <= 4.1 + 0.5 and down.std() > 1  # a tenth of 41 to either side
    assert right.min() >= 8 - 0.6 and right.max() <= 12 + 0.6 and right.std() > 0.5  # a fifth of ten


def test_the_cosine_rate_falls_from_the_highest_towards_nothing_and_keeps_the_last_weights() -> None:
    from pneumospark.learn import trainer
    from pneumospark.learn.phases import cosine

    rates = [cosine(1e-3, 8, epoch) for epoch in range(8)]
    assert rates[0] == 1e-3 and rates == sorted(rates, reverse=True) and 0 < rates[-1] < 1e-4
    config = TrainConfig(bundle="unused", epochs=4, patience=0, schedule="cosine", augment="none", learning_rate=1e-3)
    _, history = trainer.train(config, build, data(), data(), ())
    assert len(history["loss"]) == 4  # patience stops nothing here
    assert history["learning_rate"] == pytest.approx([cosine(1e-3, 4, epoch) for epoch in range(4)])


@pytest.mark.parametrize(
    "other",
    [
        {"schedule": "plateau"},
        {"schedule": "cosine", "optimizer": "sgd"},
        {"precision": "mixed", "epochs": 2},
        {"network": "finetuned", "head_epochs": 2, "frozen": 0.3},
        {"network": "finetuned", "head_epochs": 1, "epochs": 3, "schedule": "cosine"},
    ],
    ids=lambda other: " ".join(map(str, other.values())),
)
def test_a_training_that_goes_on_after_any_epoch_comes_to_the_same_network(other: dict[str, Any]) -> None:
    from pneumospark.learn import trainer

    settings = {"epochs": 5, "patience": 2, "augment": "robust", "learning_rate": 0.05} | other
    config = TrainConfig(bundle="unused", **settings)
    build = small_finetuned if config.head_epochs else globals()["build"]
    states: list[bytes] = []
    whole, history = trainer.train(config, build, data(), data(), (), trainer.Checkpoint(states.append, None))
    for done in range(1, len(states) + 1):
        saved = states[done - 1]
        assert trainer.epochs_done(saved) == done
        again, its_history = trainer.train(config, build, data(), data(), (), trainer.Checkpoint(lambda _: None, saved))
        assert {name: pytest.approx(values, abs=1e-4) for name, values in history.items()} == its_history
        for one, two in zip(whole.get_weights(), again.get_weights(), strict=True):
            np.testing.assert_allclose(one, two, atol=1e-4)


def test_a_training_that_goes_on_counts_small_gains_as_the_undisturbed_one_does() -> None:
    """Losses a ten-thousandth apart: Keras calls them no gain, and turns its `min_delta` round at every start."""
    losses = [0.30, 0.20, 0.15, 0.15004, 0.14995, 0.14991, 0.1499, 0.1489, 0.14885, 0.1488]
    whole = rates_of(losses, kills=())
    assert len(set(whole)) > 3
    for kills in ((2,), (5,), (1, 3, 6)):
        assert rates_of(losses, kills) == pytest.approx(whole)


def rates_of(losses: list[float], kills: tuple[int, ...]) -> list[float]:
    """The learning rate of each epoch whose validation loss is told, by a training killed after some of them."""
    import keras

    from pneumospark.learn.phases import phases
    from pneumospark.learn.resume import Resume

    config, saved, rates = TrainConfig(bundle="unused", epochs=len(losses)), None, []
    for last in (*kills, len(losses)):
        (phase,), states = phases(config), []
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        model.compile(keras.optimizers.Adam(config.learning_rate), "mse")
        model.optimizer.build(model.trainable_variables)
        resume = Resume(0, phase.schedule, states.append, saved)
        callbacks = keras.callbacks.CallbackList([*phase.schedule, resume], model=model)
        callbacks.on_train_begin()
        for epoch in range(resume.epochs, last):
            rates.append(float(model.optimizer.learning_rate))
            callbacks.on_epoch_begin(epoch)
            callbacks.on_epoch_end(epoch, {"loss": losses[epoch], "val_loss": losses[epoch]})
        saved = states[-1]
    return rates


def test_the_head_learns_first_and_then_all_at_a_lower_rate() -> None:
    from pneumospark.learn import trainer

    config = TrainConfig(
        bundle="unused", network="finetuned", epochs=3, head_epochs=2, learning_rate=0.1, finetune_rate=1e-3
    )
    kernels: list[np.ndarray] = []

    def built() -> Any:
        nonlocal model
        model = small_finetuned()
        return model

    model = None

    def look() -> None:
        layers = {layer.name: layer for layer in model._flatten_layers()}
        kernels.append(np.array(layers["of_backbone"].kernel))

    _, history = trainer.train(config, built, data(), data(), (look,))
    assert history["learning_rate"] == pytest.approx([0.1, 0.1, 1e-3])
    assert np.array_equal(kernels[0], kernels[1]) and not np.array_equal(kernels[1], kernels[2])


def test_mixed_precision_leaves_a_network_of_float32() -> None:
    from pneumospark.learn import precision, trainer

    seen = []

    def watched() -> Any:
        model = build()
        layer = model.layers[3]
        call = layer.call

        def noting(*args: Any, **kwargs: Any) -> Any:
            seen.append((output := call(*args, **kwargs)).dtype.name)
            return output

        layer.call = noting
        return model

    model, _ = trainer.train(recipe(precision="mixed"), watched, data(), data(), ())
    assert set(seen) == {"bfloat16"} and {str(weight.dtype) for weight in model.weights} == {"float32"}
    seen.clear()
    probability = model(next(iter(data()))[0])
    assert seen == ["float32"] and probability.dtype.name == "float32"
    assert precision.policy("auto") == "float32"  # on these CPUs


def test_balanced_weights_move_the_probabilities_to_the_rarer_class() -> None:
    from pneumospark.learn import trainer
    from pneumospark.learn.weights import balanced, weighted

    assert balanced([30, 10]).tolist() == pytest.approx([40 / 60, 2.0])
    few = (
        data()
        .unbatch()
        .filter(lambda x, y: y < 0.5)
        .take(14)
        .concatenate(data().unbatch().filter(lambda x, y: y > 0.5).take(2))
        .batch(4)
    )
    heavy = weighted(few, {"normal": 14, "pneumonia": 2}, ["normal", "pneumonia"])
    config = TrainConfig(bundle="unused", epochs=12, augment="none", learning_rate=0.01, schedule="cosine")
    means = [trainer.predict(trainer.train(config, build, of, few, ())[0], few)[1].mean() for of in (few, heavy)]
    assert means[1] > means[0] + 0.05


def test_a_tensorboard_log_has_every_epoch(tmp_path: Path) -> None:
    import tensorflow as tf
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from pneumospark.learn import trainer

    config = TrainConfig(bundle="unused", epochs=2, augment="none", tensorboard=str(tmp_path))
    _, history = trainer.train(config, build, data(), data(), ())
    events = EventAccumulator(str(tmp_path / "validation")).Reload()
    values = [float(tf.make_ndarray(event.tensor_proto)) for event in events.Tensors("epoch_loss")]
    assert values == pytest.approx(history["val_loss"], abs=1e-6)


def test_a_checkpoint_runs_no_code() -> None:
    import pickle

    from pneumospark.learn import trainer

    with pytest.raises(ValueError, match="allow_pickle=False"):
        trainer.epochs_done(pickle.dumps({"facts": print}))
