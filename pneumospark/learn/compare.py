"""Two models on the same images: is one better, or was it chance?"""

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

from pneumospark.learn.bootstrap import DEFAULT_TERMS, Terms, bounds, draw
from pneumospark.learn.intervals import delong_pair

Floats = npt.NDArray[np.float64]
Scores = tuple[Floats, float]
"""Probabilities (n,) of one model, and its threshold."""

DIFFERENCES = ("accuracy", "recall", "specificity", "roc_auc", "brier")


def compare(
    truth: npt.NDArray[np.int64],
    first: Scores,
    second: Scores,
    patients: npt.NDArray[Any],
    terms: Terms = DEFAULT_TERMS,
) -> dict[str, Any]:
    """McNemar's exact test at each model's own threshold, DeLong's test of the areas, and the differences' intervals.

    `truth` and `patients` are (n,). `mcnemar` has a record for accuracy (all images), recall (pneumonia) and
    specificity (normal): how many images only the first, only the second called rightly, and the two-sided p. Both
    tests take images for independent; `bootstrap` has 95 % intervals of first minus second over whole patients.
    """
    called = [(probability >= threshold).astype(np.int64) == truth for probability, threshold in (first, second)]
    parts = {"accuracy": np.ones(len(truth), bool), "recall": truth == 1, "specificity": truth == 0}
    drawn = [draw(truth, *scores, patients, terms) for scores in (first, second)]
    differences = {name: drawn[0][name] - drawn[1][name] for name in DIFFERENCES} if drawn[0] and drawn[1] else {}
    return {
        "n": len(truth),
        "mcnemar": {name: mcnemar(called[0][part], called[1][part]) for name, part in parts.items()},
        "delong": delong_pair(truth, first[0], second[0]),
        "bootstrap": {"resamples": terms.resamples, "seed": terms.seed, "intervals": bounds(differences)},
    }


def mcnemar(first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """McNemar's exact test of who was right, each (n,): the images on which both agree say nothing (1947).

    `p` is 1 where they agree everywhere.
    """
    ours, theirs = int(np.count_nonzero(first & ~second)), int(np.count_nonzero(second & ~first))
    p = float(binomtest(ours, ours + theirs).pvalue) if ours + theirs else 1.0
    return {"n": len(first), "only_first_right": ours, "only_second_right": theirs, "p": p}
