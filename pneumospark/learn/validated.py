"""What validation makes of a trained network: its calibration, its threshold, and figures with intervals."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from sklearn.metrics import classification_report, confusion_matrix

from pneumospark.config import TrainConfig
from pneumospark.learn.bootstrap import Terms
from pneumospark.learn.calibrate import calibrate, choose_threshold, is_given
from pneumospark.learn.metrics import metrics
from pneumospark.learn.trainer import predict
from pneumospark.targets import TARGETS, UNKNOWN, Target

SHOWN = ("n", "positives", "roc_auc", "average_precision", "recall", "specificity", "threshold", "brier", "ece")


def validated(
    network: keras.Model, data: tf.data.Dataset, patients: Callable[[], NDArray[Any]], recipe: TrainConfig
) -> tuple[dict[str, Any], NDArray[np.float64]]:
    """Calibrate a network in place and judge it: what a bundle says of it, ready for JSON, and P(pneumonia) (n,).

    `data` yields the validation images in one order, and `patients` gives whose they were in the last pass, (n,).
    Besides intervals that take images for independent the figures have those over resampled patients (`bootstrap`).
    Of a target of several outputs, `validation` has the figures of pneumonia, and those of each output in `outputs`.
    """
    target = TARGETS[recipe.target]
    facts: dict[str, Any] = {"calibration": calibrate(network, *predict(network, data), target, recipe.calibration)}
    truth, given = predict(network, data)  # by the network as the bundle keeps it
    truth, given = truth.reshape(len(truth), -1), given.reshape(len(given), -1)
    ill, probability = target.pneumonia(truth), np.clip(target.pneumonia(given), 0, 1)
    known = (truth != UNKNOWN).all(axis=1) if target.name == "kind" else ill != UNKNOWN
    threshold = choose_threshold(ill[known], probability[known], recipe.threshold)
    chosen_on = None if is_given(recipe.threshold) else "validation"
    facts["threshold"] = {"value": threshold, "rule": recipe.threshold, "chosen_on": chosen_on}
    terms = Terms(seed=recipe.seed)
    facts["validation"] = metrics(ill[known], probability[known], threshold, patients()[known], terms)
    outputs = {} if target.is_binary else _of_each(truth, given, target, recipe.threshold)
    if target.activation == "softmax":
        facts["validation"]["classes"] = _of_classes(truth, given, target)
    if outputs:
        areas = [figures["roc_auc"] for figures in outputs.values() if figures["roc_auc"] is not None]
        facts["validation"] |= {"outputs": outputs, "macro_roc_auc": float(np.mean(areas)) if areas else None}
    thresholds = {name: figures["threshold"] for name, figures in outputs.items()}
    names = list(target.outputs)
    facts["outputs"] = {
        "target": target.name,
        "names": names,
        "activation": target.activation,
        "thresholds": thresholds,
    }
    return facts, probability


def _of_each(
    truth: NDArray[np.int64], given: NDArray[np.float64], target: Target, rule: str
) -> dict[str, dict[str, Any]]:
    """Figures of each output against all others, by the images where it is known, at a threshold by the same rule."""
    found = {}
    for name, is_so, said in zip(target.outputs, truth.T, np.clip(given, 0, 1).T, strict=True):
        known = is_so != UNKNOWN
        figures = metrics(is_so[known], said[known], choose_threshold(is_so[known], said[known], rule))
        found[name] = {key: figures[key] for key in SHOWN} | {"interval": figures["intervals"]["roc_auc"]}
    return found


def _of_classes(truth: NDArray[np.int64], given: NDArray[np.float64], target: Target) -> dict[str, Any]:
    """scikit-learn's report of the most probable class, and the confusion matrix, a row for each true class."""
    of, said, places = truth.argmax(axis=1), given.argmax(axis=1), range(len(target.outputs))
    report = classification_report(
        of, said, labels=places, target_names=target.outputs, output_dict=True, zero_division=0.0
    )
    report["accuracy"] = float(np.mean(of == said))  # it is "micro avg" where a class was never called
    return {"report": report, "confusion": confusion_matrix(of, said, labels=places).tolist()}
