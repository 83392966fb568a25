"""Figures of many resamples at once: whole patients are drawn, since images of one are not independent."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.integrate import trapezoid

from pneumospark.errors import ConfigError
from pneumospark.learn.intervals import LEVEL

Floats = npt.NDArray[np.float64]
Figures = dict[str, Floats]

SENSITIVITIES = (0.95, 0.972)
"""Where the specificity is read off the curve; 0.972 is the sensitivity of the published work."""

BINS = 10
"""Bins of equal width, 0 to 1, of the expected calibration error and of the reliability curve."""

FEWEST_PATIENTS = 10
"""Fewer are too few to say anything by drawing from them."""

AT = {f"specificity_at_sensitivity_{sensitivity}": sensitivity for sensitivity in SENSITIVITIES}

CELLS = 2**18
"""Weights held at a time, resamples x images: arrays of 2 MiB stay in the processor's cache, and took half the time of
those of 32 MiB."""


@dataclass(frozen=True)
class Terms:
    """What an evaluation assumes: prevalence for PPV and NPV, 0 to 1, and how often and by which seed it resamples."""

    prevalence: float = 0.1
    resamples: int = 2000
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise ConfigError for a prevalence that is no share."""
        if not 0 < self.prevalence < 1:
            raise ConfigError(f"evaluate.prevalence: expected more than 0 and less than 1, got {self.prevalence}")


DEFAULT_TERMS = Terms()


def bounds(drawn: Figures) -> dict[str, list[float] | None]:
    """Percentile intervals of the figures of resamples, each (r,).

    None where more than one resample in twenty leaves a figure undefined, and where all of them give the same: that a
    sample holds no error is no proof that there are none.
    """
    return {name: _percentiles(values) for name, values in drawn.items()}


def mirrored(interval: list[float] | None, estimate: float | None) -> list[float] | None:
    """The interval of a distance from 0, which chance makes larger, and a resample's own chance once more.

    Its percentiles lie too high, all of them above the `estimate` where the truth is 0. The basic interval mirrors them
    at the estimate (A. C. Davison and D. V. Hinkley, Bootstrap Methods and their Application, 1997, section 5.2). None
    is below 0, and the estimate is in it. It is the better one, not exact: of 600 probabilities that are right by
    construction it held 0 in 12 of 20 trials, percentiles in none.
    """
    if interval is None or estimate is None:
        return None
    low, high = interval
    return [max(0.0, 2 * estimate - high), max(estimate, 2 * estimate - low)]


def draw(
    truth: npt.NDArray[np.int64], probability: Floats, threshold: float, patients: npt.ArrayLike, terms: Terms
) -> Figures | None:
    """The figures of `terms.resamples` resamples of the patients, each (resamples,); None for too few patients.

    `truth`, `probability`, `patients` are (n,). Equal patients and seed draw the same resamples, so that the figures of
    two models on the same images can be subtracted.
    """
    numbers, of_image = np.unique(np.asarray(patients), return_inverse=True)
    if len(numbers) < FEWEST_PATIENTS or terms.resamples < 1:
        return None
    curve = Curve(truth, probability, threshold)
    parts = [
        curve.figures(counts[:, of_image], terms.prevalence) for counts in _counts(len(numbers), len(truth), terms)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def bin_of(probability: Floats, bins: int = BINS) -> npt.NDArray[np.int64]:
    """The bin (n,) of each probability, as scikit-learn's `calibration_curve` has it: (0.1, 0.2], the first with 0."""
    return np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], probability)


class Curve:
    """Truth and probabilities of n images in falling order: what every weighting of them shares."""

    def __init__(self, truth: npt.NDArray[np.int64], probability: Floats, threshold: float) -> None:
        self.order = np.argsort(-probability, kind="stable")
        self.truth, self.probability = truth[self.order].astype(np.float64), probability[self.order]
        self.ends = np.flatnonzero(np.append(np.diff(self.probability) != 0, True))  # the last image of each tie
        self.called = int(np.count_nonzero(self.probability[self.ends] >= threshold))  # ties at or above it
        self.gaps = np.zeros((len(truth), BINS))
        self.gaps[np.arange(len(truth)), bin_of(self.probability)] = self.probability - self.truth

    def figures(self, weights: npt.NDArray[np.integer[Any]], prevalence: float) -> Figures:
        """Figures (r,) under weights (r, n), which say how often each image counts; NaN where one is undefined."""
        weights = weights[:, self.order].astype(np.float64)
        tp = _from_nothing(np.cumsum(weights * self.truth, axis=1)[:, self.ends])  # (r, ties + 1), by falling threshold
        fp = _from_nothing(np.cumsum(weights * (1 - self.truth), axis=1)[:, self.ends])
        total, mse = weights.sum(axis=1), weights @ (self.probability - self.truth) ** 2
        with np.errstate(divide="ignore", invalid="ignore"):
            recall, false_alarms = tp / tp[:, -1:], fp / fp[:, -1:]
            gains = np.diff(recall, axis=1) * np.nan_to_num(tp / (tp + fp))[:, 1:]
            return {
                **_at(tp[:, self.called], fp[:, self.called], tp[:, -1], fp[:, -1], prevalence),
                "roc_auc": trapezoid(recall, false_alarms, axis=1),
                "average_precision": gains.sum(axis=1),
                **{name: _specificity_at(sensitivity, recall, false_alarms) for name, sensitivity in AT.items()},
                "brier": mse / total,
                "mae": weights @ np.abs(self.probability - self.truth) / total,
                "rmse": np.sqrt(mse / total),
                "ece": np.abs(weights @ self.gaps).sum(axis=1) / total,
            }


def positive_value(recall: Floats, specificity: Floats, prevalence: float) -> Floats:
    """PPV by Bayes' rule; the NPV is that of the opposite: specificity, recall, 1 - prevalence."""
    right = recall * prevalence
    return right / (right + (1 - specificity) * (1 - prevalence))


def _at(tp: Floats, fp: Floats, positives: Floats, negatives: Floats, prevalence: float) -> Figures:
    recall, specificity = tp / positives, 1 - fp / negatives
    return {
        "accuracy": (tp + negatives - fp) / (positives + negatives),
        "precision": tp / (tp + fp),
        "recall": recall,
        "specificity": specificity,
        "f1": 2 * tp / (tp + fp + positives),
        "ppv": positive_value(recall, specificity, prevalence),
        "npv": positive_value(specificity, recall, 1 - prevalence),
    }


def _specificity_at(sensitivity: float, recall: Floats, false_alarms: Floats) -> Floats:
    """The specificity (r,) at the highest threshold that finds the share `sensitivity` of the positives."""
    first = np.argmax(recall >= sensitivity - 1e-12, axis=1)  # 1e-12: sums of counts are exact, their ratio is not
    found: Floats = 1 - np.take_along_axis(false_alarms, first[:, np.newaxis], axis=1)[:, 0]
    return np.where(np.isnan(recall[:, -1]), np.nan, found)


def _from_nothing(sums: Floats) -> Floats:
    """Before the first image nothing is called: a column of zeros before (r, k)."""
    return np.pad(sums, ((0, 0), (1, 0)))


def _counts(patients: int, images: int, terms: Terms) -> Iterator[npt.NDArray[np.integer[Any]]]:
    """How often each patient is drawn, (r, patients), in parts of a bounded size."""
    generator, left, part = np.random.default_rng(terms.seed), terms.resamples, max(1, CELLS // images)
    while left:
        rows = min(part, left)
        yield np.stack(
            [np.bincount(generator.integers(patients, size=patients), minlength=patients) for _ in range(rows)]
        )
        left -= rows


def _percentiles(values: Floats) -> list[float] | None:
    defined = values[~np.isnan(values)]
    if len(defined) < 0.95 * len(values) or np.ptp(defined) < 1e-12:
        return None
    return [float(bound) for bound in np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])]
