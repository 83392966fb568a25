"""What each image weighs in the loss."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from pneumospark.targets import UNKNOWN


def balanced(counts: Sequence[int]) -> NDArray[np.float32]:
    """The weight of an image of each class, so that all classes weigh the same and the mean weight is 1."""
    seen = np.asarray(counts, np.float64)
    return np.asarray(seen.sum() / (len(seen) * seen), np.float32)


def weighted(data: tf.data.Dataset, counts: Mapping[str, int], labels: Sequence[str]) -> tf.data.Dataset:
    """Batches of x and y with weights (n,) by the `counts` of images of each label.

    y is (n,), each a place in `labels`, or (n, labels), of which one is 1.
    """
    weights = tf.constant(balanced([counts[label] for label in labels]))

    def with_weights(x: Any, y: Any) -> Any:
        place = tf.argmax(y, axis=1) if y.shape.rank == 2 else tf.cast(y, tf.int32)
        return x, y, tf.gather(weights, place)

    return data.map(with_weights)


def masked(data: tf.data.Dataset) -> tf.data.Dataset:
    """Batches of x and y (n, k) with weights (n, k): 0 where y is UNKNOWN, and y is then 0."""
    return data.map(lambda x, y: (x, tf.maximum(y, 0), tf.cast(y != UNKNOWN, tf.float32)))


class EachBinaryCrossentropy(keras.losses.Loss):  # type: ignore[misc]
    """Binary cross-entropy of each output, (n, k), so that each can have its weight."""

    def __init__(self, label_smoothing: float = 0.0) -> None:
        super().__init__(name="each_binary_crossentropy")
        self.label_smoothing = label_smoothing

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Not reduced."""
        smoothed = y_true * (1 - self.label_smoothing) + self.label_smoothing / 2
        return keras.ops.binary_crossentropy(smoothed, y_pred)
