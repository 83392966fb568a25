"""Intervals of proportions and of the area under the ROC curve, in closed form: they take the images for independent."""

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
    """DeLong's interval of the area under the ROC curve, in n log n by midranks.

    X. Sun, W. Xu, "Fast implementation of DeLong's algorithm for comparing the areas under correlated receiver
    operating characteristic curves", IEEE Signal Processing Letters 21(11), 2014.
    None where the data give it no width: fewer than two images of a class, no overlap of the classes, ties only.
    """
    positive, negative = probability[truth == 1], probability[truth == 0]
    m, n = len(positive), len(negative)
    if min(m, n) < 2:
        return None
    rank = rankdata(np.concatenate([positive, negative]))  # midranks: a tie counts half
    below_positive = (rank[:m] - rankdata(positive)) / n  # (m,): the share of negatives below each positive
    above_negative = 1 - (rank[m:] - rankdata(negative)) / m  # (n,): the share of positives above each negative
    variance = below_positive.var(ddof=1) / m + above_negative.var(ddof=1) / n
    if variance == 0:
        return None
    low, high = norm.interval(LEVEL, below_positive.mean(), variance**0.5)
    return [max(0.0, float(low)), min(1.0, float(high))]
