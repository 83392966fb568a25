"""Augmentation by name, as Keras layers on grey levels 0..255: in the training graph only, never in a bundle."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf
from keras import layers

from pneumospark.errors import ConfigError

Part = Callable[[int], layers.Layer]
"""A seed -> a layer."""


class Augmentation(NamedTuple):
    """What `RandomAffine` draws, a part each, and the layers that follow it, by name and in their order."""

    geometry: dict[str, Any]
    others: dict[str, Part]


def _contrast(most: float) -> Part:
    return lambda seed: layers.RandomContrast(most, value_range=(0, 255), seed=seed)


def _brightness(most: float) -> Part:
    return lambda seed: layers.RandomBrightness(most, value_range=(0, 255), seed=seed)


AUGMENTATIONS: dict[str, Augmentation] = {
    # Small changes that a technician or a machine makes too.
    "light": Augmentation(
        {"turn": 10, "zoom": (0.1, 0.1), "shift": (0.05, 0.05)},
        {"contrast": _contrast(0.2), "brightness": _brightness(0.1)},
    ),
    # Against what tells a label and is no medicine: stretch, sharpness, exposure, noise, and what a film's edge shows.
    # Height and width are zoomed apart, since the aspect ratio of a file alone tells the label of the set of Kermany et
    # al. with an AUC of 0.85; resolution is lost at random, since sharpness tells it with 0.90. No flips: the heart
    # lies on the left, and a chest is never upside down.
    "robust": Augmentation(
        {"turn": 10, "zoom": (0.2, 0.2), "shift": (0.08, 0.08), "shear": 0.1},
        {
            "resolution": lambda seed: RandomResolution(seed, 0.4, 0.9, share=0.5),
            "gamma": lambda seed: RandomGamma(seed, 0.3),
            "contrast": _contrast(0.3),
            "brightness": _brightness(0.1),
            "noise": lambda seed: RandomNoise(seed, 6.0),
        },
    ),
    # The settings of the published method. The paper gives no number for its zoom; crop and pad by 0.25 changes the
    # scale by up to a quarter, and is that zoom here.
    "published": Augmentation(
        {"turn": 45, "zoom": (0.25, 0.25), "shift": (0.2, 0.15), "shear": math.tan(math.radians(16))},
        {"flips": lambda seed: layers.RandomFlip("horizontal_and_vertical", seed=seed)},
    ),
}


def augmentation(name: str, shape: tuple[int, ...], seed: int, without: Sequence[str] = ()) -> keras.Model:
    """(n, *shape) of 0..255 to the same, float32, by a name of AUGMENTATIONS; without training it changes nothing.

    Parts named in `without` are left out; the others draw what they draw with them. Raises ConfigError for a part that
    this augmentation has not.
    """
    geometry, others = AUGMENTATIONS[name]
    if unknown := [part for part in without if part not in {*geometry, *others}]:
        raise ConfigError(
            f"train.augment_without: {name} has the parts {', '.join([*geometry, *others])}, got {', '.join(unknown)}"
        )
    affine = RandomAffine(seed, **{part: most for part, most in geometry.items() if part not in without})
    after = [make(seed + place) for place, (part, make) in enumerate(others.items(), 1) if part not in without]
    return keras.Sequential([keras.Input(shape), affine, *after], name="augmentation")


class _Random(layers.Layer):  # type: ignore[misc]
    """A layer that acts in training only, by random numbers of a seed."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, images: Any, training: bool = True) -> Any:
        return self.changed(tf.cast(images, tf.float32)) if training else images

    def changed(self, images: Any) -> Any:
        """(n, height, width, channels) in 0..255 to the same."""
        raise NotImplementedError

    def uniform(self, shape: tuple[Any, ...], low: float, high: float) -> Any:
        """Random numbers in [low, high)."""
        return keras.random.uniform(shape, low, high, seed=self.seed_generator)


class RandomAffine(_Random):
    """Turn, zoom, shift and shear in one resampling: four in a row would cost four times as much, and blur.

    `turn` in degrees to either side; `zoom` and `shift` of height and width, as shares; `shear` as the tangent. Each is
    drawn anew for each image, height's zoom apart from width's. What comes from outside the image is black.
    """

    def __init__(
        self,
        seed: int,
        turn: float = 0.0,
        zoom: tuple[float, float] = (0.0, 0.0),
        shift: tuple[float, float] = (0.0, 0.0),
        shear: float = 0.0,
    ) -> None:
        super().__init__(seed)
        self.ranges = {"turn": math.radians(turn), "shear": shear}
        self.ranges |= {"zoom_y": zoom[0], "zoom_x": zoom[1], "shift_y": shift[0], "shift_x": shift[1]}

    def changed(self, images: Any) -> Any:
        """Each output pixel is read, bilinearly, where the inverse map about the image's centre points to."""
        n, height, width = tf.shape(images)[0], images.shape[1], images.shape[2]
        drawn = {name: self.uniform((n,), -most, most) for name, most in self.ranges.items()}
        cos, sin = tf.cos(drawn["turn"]), tf.sin(drawn["turn"])
        scale_y, scale_x = 1 / (1 + drawn["zoom_y"]), 1 / (1 + drawn["zoom_x"])
        a, b = cos * scale_x, (drawn["shear"] * cos - sin) * scale_y
        c, d = sin * scale_x, (drawn["shear"] * sin + cos) * scale_y
        x, y = (width - 1) / 2, (height - 1) / 2
        left, top = x * (1 + 2 * drawn["shift_x"]), y * (1 + 2 * drawn["shift_y"])  # where the centre comes from
        zero = tf.zeros_like(a)
        maps = tf.stack([a, b, left - a * x - b * y, c, d, top - c * x - d * y, zero, zero], axis=1)  # (n, 8)
        return tf.raw_ops.ImageProjectiveTransformV3(
            images=images,
            transforms=maps,
            output_shape=[height, width],
            fill_value=0.0,
            interpolation="BILINEAR",
            fill_mode="CONSTANT",
        )


class RandomResolution(_Random):
    """A share of the batches is made `low` to `high` times as large, and brought back: fine detail is lost."""

    def __init__(self, seed: int, low: float, high: float, share: float) -> None:
        super().__init__(seed)
        self.low, self.high, self.share = low, high, share

    def changed(self, images: Any) -> Any:
        """One size a batch, since a batch is one array."""
        size = tf.shape(images)[1:3]
        smaller = tf.cast(tf.cast(size, tf.float32) * self.uniform((), self.low, self.high), tf.int32)

        def resampled() -> Any:
            return tf.ensure_shape(
                tf.image.resize(tf.image.resize(images, smaller, antialias=True), size), images.shape
            )

        return tf.cond(self.uniform((), 0, 1) < self.share, resampled, lambda: images)


class RandomGamma(_Random):
    """Each image's exposure: 255 (x / 255) ** gamma, log gamma in -`factor` to `factor`."""

    def __init__(self, seed: int, factor: float) -> None:
        super().__init__(seed)
        self.factor = factor

    def changed(self, images: Any) -> Any:
        """Grey levels outside 0..255 are cut off first."""
        gamma = tf.exp(self.uniform((tf.shape(images)[0], 1, 1, 1), -self.factor, self.factor))
        return 255 * tf.pow(tf.clip_by_value(images / 255, 0, 1), gamma)


class RandomNoise(_Random):
    """Each image's own noise: normal, of a standard deviation of up to `highest` grey levels."""

    def __init__(self, seed: int, highest: float) -> None:
        super().__init__(seed)
        self.highest = highest

    def changed(self, images: Any) -> Any:
        """Cut off at 0 and 255."""
        deviation = self.uniform((tf.shape(images)[0], 1, 1, 1), 0, self.highest)
        noise = keras.random.normal(tf.shape(images), seed=self.seed_generator)
        return tf.clip_by_value(images + deviation * noise, 0, 255)
