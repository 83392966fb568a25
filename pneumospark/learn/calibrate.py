"""Calibration and the operating point, both from validation data alone."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, logit, softmax
from sklearn.metrics import log_loss, roc_curve

from pneumospark.errors import ConfigError
from pneumospark.targets import BINARY, UNKNOWN, Target

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.integer[Any]]
EDGE = 1e-6
"""A float32 sigmoid reaches 0 and 1; the logit is taken this far inside."""


def calibrate(
    network: Any, truth: Ints, probability: Floats, target: Target = BINARY, way: str = "platt"
) -> dict[str, Any]:
    """Calibrate a network in place, on what it gave for validation data; returns what a bundle says of it.

    Truth and probability are (n,), or (n, k) for a target of k outputs. Kinds share a temperature; findings have each
    their own, by the images where they are known. `way` is "platt", "temperature" (no bias), or "none".
    """
    if way == "none":
        return {"method": "none"}
    biased = way == "platt"
    if not target.is_binary:
        fit = fit_softmax if target.activation == "softmax" else _fit_each
        temperatures, biases = fit(truth, probability, biased)
        fold_scaling(network, temperatures, biases)
        method = f"temperature{' and bias' * biased} of each output, folded into the last layer"
        scaling = zip(target.outputs, temperatures.tolist(), biases.tolist(), strict=True)
        outputs = {name: {"temperature": temperature, "bias": bias} for name, temperature, bias in scaling}
        return {"method": method, "outputs": outputs, "fitted_on": "validation"}
    temperature, bias = fit_scaling(truth, probability, biased)
    fold_scaling(network, temperature, bias)
    method = f"temperature{' and bias (Platt scaling)' * biased}, folded into the last layer"
    return {"method": method, "temperature": temperature, "bias": bias, "fitted_on": "validation"}


def fit_scaling(truth: Ints, probability: Floats, biased: bool = True) -> tuple[float, float]:
    """The temperature, 0.05 to 20, and the bias, -20 to 20, of least log loss; 1 and 0 for one class only.

    Without `biased` the bias is 0.

    Temperature alone (Guo et al. 2017, arXiv:1706.04599) cannot mend a network whose probabilities are all too low or
    too high, and one that was trained on augmented images is: those of validation are clearer than any it has seen.
    With a bias it is Platt's scaling (1999), on logits.
    """
    if len(np.unique(truth)) < 2:
        return 1.0, 0.0

    def loss(at: Floats) -> float:
        return float(log_loss(truth, with_scaling(probability, float(np.exp(at[0])), float(at[1])), labels=[0, 1]))

    bounds = [(np.log(0.05), np.log(20)), (-20, 20) if biased else (0, 0)]
    found = minimize(loss, x0=np.zeros(2), bounds=bounds, method="L-BFGS-B")
    return float(np.exp(found.x[0])), float(found.x[1])


def with_scaling(probability: Floats, temperature: float, bias: float = 0.0) -> NDArray[np.float64]:
    """p -> expit((logit(p) + bias) / temperature), same shape: a temperature above 1 is less sure, no order changes."""
    return np.asarray(expit((logit_of(probability) + bias) / temperature))


def logit_of(probability: Floats) -> NDArray[np.float64]:
    """The logit, same shape, finite also where a float32 sigmoid has reached 0 or 1."""
    return np.asarray(logit(np.clip(probability.astype(np.float64), EDGE, 1 - EDGE)))


def fit_softmax(
    truth: Ints, probability: Floats, biased: bool = True
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """One temperature for k classes, as (k,), and the bias of each, (k,), of least log loss; the first bias is 0.

    `truth`, of which one is 1, and `probability` are (n, k). A class that is not there leaves all as it is.
    """
    k = probability.shape[1]
    if not truth.any(axis=0).all():
        return np.ones(k), np.zeros(k)
    logs = np.log(np.clip(probability.astype(np.float64), EDGE, 1))

    def scaled(at: Floats) -> NDArray[np.float64]:
        return np.asarray(softmax((logs + np.append(0, at[1:])) / np.exp(at[0]), axis=1))

    def loss(at: Floats) -> float:
        return float(log_loss(truth.argmax(axis=1), scaled(at), labels=range(k)))

    bounds = [(np.log(0.05), np.log(20)), *[(-20, 20) if biased else (0, 0)] * (k - 1)]
    found = minimize(loss, x0=np.zeros(k), bounds=bounds, method="L-BFGS-B").x
    return np.full(k, np.exp(found[0])), np.append(0, found[1:])


def _fit_each(truth: Ints, probability: Floats, biased: bool) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    columns = zip(truth.T, probability.T, strict=True)
    found = [fit_scaling(of_one[of_one != UNKNOWN], said[of_one != UNKNOWN], biased) for of_one, said in columns]
    return np.array([temperature for temperature, _ in found]), np.array([bias for _, bias in found])


def fold_scaling(network: Any, temperature: Any, bias: Any) -> None:
    """Put both, or those of each output (k,), into the last layer, sigmoid or softmax: it is then calibrated."""
    last = network.layers[-1]
    kernel, offset = last.get_weights()
    last.set_weights([kernel / temperature, (offset + bias) / temperature])


def choose_threshold(truth: Ints, probability: Floats, rule: str) -> float:
    """The threshold at and above which an image is called pneumonia.

    Rules: a number in (0, 1); "youden", where sensitivity + specificity - 1 is largest (Youden 1950);
    "sensitivity=S", the highest threshold that finds the share S of the pneumonias; "costs=FN:FP", where missed
    pneumonias at FN each and false alarms at FP each cost least together, the highest of several such thresholds.
    Raises ConfigError for any other rule. With one class only, every rule but a number gives 0.5.
    """
    name, _, value = rule.partition("=")
    if is_given(rule) or (name == "youden") == bool(value):
        return _share(rule, rule)
    costs, target = _costs(value, rule) if name == "costs" else (), _share(value, rule) if name == "sensitivity" else 0
    if len(np.unique(truth)) < 2:
        return 0.5
    false_positive, sensitivity, thresholds = roc_curve(truth, probability, drop_intermediate=False)
    if costs:
        positives = int(np.sum(truth))
        missed, alarms = positives * (1 - sensitivity), (len(truth) - positives) * false_positive
        best = int(np.argmin(costs[0] * np.rint(missed) + costs[1] * np.rint(alarms)))
    else:
        best = int(np.argmax(sensitivity >= target if target else sensitivity - false_positive))
    return _between(probability, float(thresholds[best]))


def is_given(rule: str) -> bool:
    """Whether a rule is the threshold itself, so that no image has a say in it."""
    return rule.partition("=")[0] not in ("youden", "sensitivity", "costs")


def check_rule(rule: str) -> None:
    """Raise ConfigError for a rule that `choose_threshold` does not know, before hours of training."""
    choose_threshold(np.array([0, 1]), np.array([0.2, 0.8]), rule)


def _share(text: str, rule: str) -> float:
    value = _number(text)
    if not 0 < value < 1:
        raise _unknown(rule)
    return value


def _costs(text: str, rule: str) -> tuple[float, ...]:
    costs = tuple(map(_number, text.split(":")))
    if len(costs) != 2 or not all(0 < cost < np.inf for cost in costs):
        raise _unknown(rule)
    return costs


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return -1.0


def _unknown(rule: str) -> ConfigError:
    return ConfigError(
        f"train.threshold: expected a number in (0, 1), youden, sensitivity=0.95 or costs=5:1, got {rule!r}"
    )


def _between(probability: Floats, threshold: float) -> float:
    """Half way down to the next lower probability: new images seldom hit a validation image's own value exactly."""
    lower = probability[probability < threshold]
    return (
        min((threshold + float(lower.max())) / 2, 1.0) if lower.size and np.isfinite(threshold) else min(threshold, 1.0)
    )
