"""What validation makes of a trained network: its calibration, its threshold, and figures with intervals."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from pneumospark.config import TrainConfig
from pneumospark.learn.bootstrap import Terms
from pneumospark.learn.calibrate import calibrate, choose_threshold
from pneumospark.learn.metrics import metrics
from pneumospark.learn.trainer import predict


def validated(
    network: keras.Model, data: tf.data.Dataset, patients: Callable[[], NDArray[Any]], recipe: TrainConfig
) -> tuple[dict[str, Any], NDArray[np.float64]]:
    """Calibrate a network in place and judge it: what a bundle says of it, ready for JSON, and the probabilities (n,).

    `data` yields the validation images in one order, and `patients` gives whose they were in the last pass, (n,).
    Besides intervals that take images for independent the figures have those over resampled patients (`bootstrap`).
    """
    facts: dict[str, Any] = {"calibration": calibrate(network, *predict(network, data))}
    truth, probability = predict(network, data)  # by the network as the bundle keeps it
    threshold = choose_threshold(truth, probability, recipe.threshold)
    facts["threshold"] = {"value": threshold, "rule": recipe.threshold, "chosen_on": "validation"}
    facts["validation"] = metrics(truth, probability, threshold, patients(), Terms(seed=recipe.seed))
    return facts, probability
