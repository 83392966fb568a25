"""Intervals of proportions and of the area under the ROC curve, in closed form: images count as independent."""

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest, norm, rankdata

Floats = npt.NDArray[np.float64]
Truth = npt.NDArray[np.int64]

LEVEL = 0.95
"""The confidence of every interval."""


def wilson(part: int, whole: int) -> list[float] | None:
    """Wilson's interval (JASA 22, 1927): unlike the usual +- 1.96 standard errors it holds near 0 and 1."""
    return list(binomtest(part, whole).proportion_ci(LEVEL, method="wilson")) if whole else None


def delong(truth: Truth, probability: Floats) -> list[float] | None:
    """DeLong's interval of the area under the ROC curve (Biometrics 44, 1988).

    None where the data give it no width: fewer than two images of a class, no overlap of the classes, ties only.
    """
    if min(truth.sum(), len(truth) - truth.sum()) < 2:
        return None
    of_positive, of_negative = placements(truth, probability)
    variance = of_positive.var(ddof=1) / len(of_positive) + of_negative.var(ddof=1) / len(of_negative)
    if variance == 0:
        return None
    low, high = norm.interval(LEVEL, of_positive.mean(), variance**0.5)
    return [max(0.0, float(low)), min(1.0, float(high))]


def delong_pair(truth: Truth, first: Floats, second: Floats) -> dict[str, Any]:
    """DeLong's test of two areas on the same images: `first`, `second`, `difference`, its `interval`, `z` and `p`.

    The last three are None where the data give the difference no width, all but the numbers with fewer than two images
    of a class.
    """
    none = {"first": None, "second": None, "difference": None, "interval": None, "z": None, "p": None}
    if min(truth.sum(), len(truth) - truth.sum()) < 2:
        return none
    ours, theirs = placements(truth, first), placements(truth, second)
    areas = {"first": float(ours[0].mean()), "second": float(theirs[0].mean())}
    difference = areas["first"] - areas["second"]
    # the variance of the differences is that of both, less twice their covariance
    error = sum((one - other).var(ddof=1) / len(one) for one, other in zip(ours, theirs, strict=True)) ** 0.5
    if error == 0:
        return none | areas | {"difference": difference}
    z = difference / error
    bounds = [float(bound) for bound in norm.interval(LEVEL, difference, error)]
    return areas | {"difference": difference, "interval": bounds, "z": float(z), "p": float(2 * norm.sf(abs(z)))}


def placements(truth: Truth, probability: Floats) -> tuple[Floats, Floats]:
    """Of each positive (m,) the share of negatives below it, of each negative (n,) that of positives above; a tie half.

    By midranks in n log n: X. Sun, W. Xu, "Fast implementation of DeLong's algorithm for comparing the areas under
    correlated receiver operating characteristic curves", IEEE Signal Processing Letters 21(11), 2014.
    """
    positive, negative = probability[truth == 1], probability[truth == 0]
    m, n = len(positive), len(negative)
    rank = rankdata(np.concatenate([positive, negative]))
    return (rank[:m] - rankdata(positive)) / n, 1 - (rank[m:] - rankdata(negative)) / m
