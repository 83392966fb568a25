"""What each image weighs in the loss."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray


def balanced(counts: Sequence[int]) -> NDArray[np.float32]:
    """The weight of an image of each class, so that all classes weigh the same and the mean weight is 1."""
    seen = np.asarray(counts, np.float64)
    return np.asarray(seen.sum() / (len(seen) * seen), np.float32)


def weighted(data: tf.data.Dataset, counts: Mapping[str, int], labels: Sequence[str]) -> tf.data.Dataset:
    """Batches of x and y (n,), each a place in `labels`, with weights (n,) by the `counts` of images of each label."""
    weights = tf.constant(balanced([counts[label] for label in labels]))

    def with_weights(x: Any, y: Any) -> Any:
        return x, y, tf.gather(weights, tf.cast(y, tf.int32))

    return data.map(with_weights)
