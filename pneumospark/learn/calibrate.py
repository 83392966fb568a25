"""Calibration and the operating point, both from validation data alone."""

import logging
from collections.abc import Callable
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
log = logging.getLogger("pneumospark")
TEMPERATURES, BIASES = (0.05, 20.0), (-20.0, 20.0)
"""Bounds of what is fitted."""

UNFITTED = "validation knows no best scaling: one class only, or classes told apart without error, or not at all"
EDGE = 1e-6
"""A float32 sigmoid reaches 0 and 1; the logit is taken this far inside."""


def calibrate(
    network: Any, truth: Ints, probability: Floats, target: Target = BINARY, way: str = "platt"
) -> dict[str, Any]:
    """Calibrate a network in place, on what it gave for validation data; returns what a bundle says of it.

    Truth and probability are (n,), or (n, k) for a target of k outputs. Kinds share a temperature; findings have each
    their own, by the images where they are known. `way` is "platt", "temperature" (no bias), or "none". Where no best
    scaling is within the bounds there is none, and a `reason`.
    """
    if way == "none":
        return {"method": "none"}
    biased = way == "platt"
    if not target.is_binary:
        fit = fit_softmax if target.activation == "softmax" else _fit_each
        temperatures, biases = fit(truth, probability, biased)
        scaling = dict(zip(target.outputs, zip(temperatures.tolist(), biases.tolist(), strict=True), strict=True))
        left = [name for name, found in scaling.items() if found == (1, 0)]
        if left:
            log.warning("train: not calibrated: %s: %s", ", ".join(left), UNFITTED)
        if len(left) == len(scaling):
            return {"method": "none", "reason": UNFITTED}
        fold_scaling(network, temperatures, biases)
        method = f"temperature{' and bias' * biased} of each output, folded into the last layer"
        outputs = {name: {"temperature": temperature, "bias": bias} for name, (temperature, bias) in scaling.items()}
        reason = {"reason": f"{', '.join(left)} as it was: {UNFITTED}"} if left else {}
        return {"method": method, "outputs": outputs, "fitted_on": "validation", **reason}
    temperature, bias = fit_scaling(truth, probability, biased)
    if (temperature, bias) == (1, 0):
        log.warning("train: not calibrated: %s", UNFITTED)
        return {"method": "none", "reason": UNFITTED}
    fold_scaling(network, temperature, bias)
    method = f"temperature{' and bias (Platt scaling)' * biased}, folded into the last layer"
    return {"method": method, "temperature": temperature, "bias": bias, "fitted_on": "validation"}


def fit_scaling(truth: Ints, probability: Floats, biased: bool = True) -> tuple[float, float]:
    """The temperature, 0.05 to 20, and the bias, -20 to 20, of least log loss; without `biased` the bias is 0.

    1 and 0, so none, for one class only, and where the least is at a bound: of classes told apart without error the
    loss falls with the temperature for ever, and of those told apart the wrong way round it falls as that rises.

    Temperature alone (Guo et al. 2017, arXiv:1706.04599) cannot mend a network whose probabilities are all too low or
    too high, and one that was trained on augmented images is: those of validation are clearer than any it has seen.
    With a bias it is Platt's scaling (1999), on logits.
    """
    if len(np.unique(truth)) < 2:
        return 1.0, 0.0

    def loss(at: Floats) -> float:
        return float(log_loss(truth, with_scaling(probability, float(np.exp(at[0])), float(at[1])), labels=[0, 1]))

    found = _least(loss, 1, biased)
    return float(np.exp(found[0])), float(found[1])


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

    `truth`, of which one is 1, and `probability` are (n, k). A class that is not there leaves all as it is, and so does
    a least loss at a bound.
    """
    k = probability.shape[1]
    if not truth.any(axis=0).all():
        return np.ones(k), np.zeros(k)
    logs = np.log(np.clip(probability.astype(np.float64), EDGE, 1))

    def scaled(at: Floats) -> NDArray[np.float64]:
        return np.asarray(softmax((logs + np.append(0, at[1:])) / np.exp(at[0]), axis=1))

    def loss(at: Floats) -> float:
        return float(log_loss(truth.argmax(axis=1), scaled(at), labels=range(k)))

    found = _least(loss, k - 1, biased)
    return np.full(k, np.exp(found[0])), np.append(0, found[1:])


def _least(loss: Callable[[Floats], float], biases: int, biased: bool) -> NDArray[np.float64]:
    """The logarithm of the temperature and the biases, (1 + biases,), of least loss; zeros where that is at a bound.

    A loss that falls for ever is so flat far out that the search may end before the bound.
    """
    bounds = [(np.log(TEMPERATURES[0]), np.log(TEMPERATURES[1])), *[BIASES if biased else (0, 0)] * biases]
    found: NDArray[np.float64] = minimize(loss, x0=np.zeros(1 + biases), bounds=bounds, method="L-BFGS-B").x
    at_bound = any(low < high and value in (low, high) for value, (low, high) in zip(found, bounds, strict=True))
    if at_bound or min(loss(np.append(end, found[1:])) for end in bounds[0]) <= loss(found):
        return np.zeros(1 + biases)
    return found


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
