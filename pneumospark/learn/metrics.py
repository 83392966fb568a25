"""How well probabilities fit the truth: one dict of figures with intervals, and the curves that a report draws."""

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.calibration import calibration_curve
from sklearn.metrics import average_precision_score, confusion_matrix, precision_recall_curve, roc_auc_score, roc_curve

from pneumospark.learn.bootstrap import AT, BINS, DEFAULT_TERMS, Curve, Terms, bin_of, bounds, draw, mirrored
from pneumospark.learn.intervals import delong, wilson

Floats = npt.NDArray[np.float64]
Truth = npt.NDArray[np.int64]


def metrics(
    truth: npt.ArrayLike,
    probability: npt.ArrayLike,
    threshold: float,
    patients: npt.ArrayLike | None = None,
    terms: Terms = DEFAULT_TERMS,
) -> dict[str, Any]:
    """The figures of a binary classifier, ready for JSON; pneumonia is the positive class.

    `truth` is (n,) of 0 (normal) and 1 (pneumonia); `probability` is (n,), 0 to 1; an image is called pneumonia where
    its probability is at or above `threshold`. A figure that is undefined, for want of one class or of positive calls,
    is None. F1 is 2 tp / (2 tp + fp + fn): 0, not undefined, where nothing is called positive but something is.
    `ppv` and `npv` are those at `terms.prevalence`, `precision` is the PPV at the images' own. Each
    `specificity_at_sensitivity_S` is read off this very curve: a limit for any threshold, not what one chosen before
    would reach. `ece` is the expected calibration error in ten bins of equal width (Guo et al. 2017).

    `intervals` holds [low, high] at 95 %: Wilson's for the proportions, DeLong's for `roc_auc`. They take the images
    for independent; several images of one patient make them too narrow. With `patients`, (n,), `bootstrap` holds
    percentile intervals of every figure over resamples of whole patients (None for fewer than ten of them), for `ece`
    one that is `mirrored`.

    Raises ValueError for unequal lengths, no images, other labels than 0 and 1, and anything outside 0 to 1.
    """
    truth, probability = _checked(truth, probability)
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold: expected 0 to 1, got {threshold}")
    called = (probability >= threshold).astype(np.int64)
    tn, fp, fn, tp = confusion_matrix(truth, called, labels=[0, 1]).ravel().tolist()
    proportions = {
        "accuracy": (tn + tp, len(truth)),
        "precision": (tp, tp + fp),
        "recall": (tp, tp + fn),
        "specificity": (tn, tn + fp),
    }
    both, others = _has_both(truth), _others(truth, probability, threshold, terms)
    return {
        "n": len(truth),
        "positives": tp + fn,
        "negatives": tn + fp,
        "threshold": float(threshold),
        "prevalence": terms.prevalence,
        "confusion": {"tn": tn, "fp": fp, "fn": fn, "tp": tp},
        **{name: _ratio(*counts) for name, counts in proportions.items()},
        "f1": _ratio(2 * tp, 2 * tp + fp + fn),
        "roc_auc": float(roc_auc_score(truth, probability)) if both else None,
        "average_precision": float(average_precision_score(truth, probability)) if truth.any() else None,
        **_errors(truth, probability),
        **others,
        "intervals": {
            **{name: wilson(*counts) for name, counts in proportions.items()},
            "roc_auc": delong(truth, probability),
        },
        "bootstrap": None if patients is None else _bootstrap(truth, probability, others, threshold, patients, terms),
    }


def curves(truth: npt.ArrayLike, probability: npt.ArrayLike) -> dict[str, tuple[Floats, ...] | None]:
    """What the plots show, by name: `roc`, `precision_recall`, `reliability`; the arguments are those of `metrics`."""
    return {
        "roc": roc(truth, probability),
        "precision_recall": precision_recall(truth, probability),
        "reliability": reliability(truth, probability),
    }


def roc(truth: npt.ArrayLike, probability: npt.ArrayLike) -> tuple[Floats, Floats] | None:
    """False positive rate and recall, each (k,), rising from 0 to 1; None with one class only."""
    truth, probability = _checked(truth, probability)
    if not _has_both(truth):
        return None
    false_positive_rate, recall, _ = roc_curve(truth, probability)
    return false_positive_rate, recall


def precision_recall(truth: npt.ArrayLike, probability: npt.ArrayLike) -> tuple[Floats, Floats] | None:
    """Recall, falling from 1 to 0, and precision, each (k,); None without a positive."""
    truth, probability = _checked(truth, probability)
    if not truth.any():
        return None
    precision, recall, _ = precision_recall_curve(truth, probability, drop_intermediate=True)
    return recall, precision


def reliability(truth: npt.ArrayLike, probability: npt.ArrayLike, bins: int = BINS) -> tuple[Floats, ...]:
    """Mean probability, observed share of positives, and that share's low and high bound, each (k,), k <= `bins`.

    The bins are of equal width over 0 to 1; empty ones are left out.
    """
    truth, probability = _checked(truth, probability)
    share, mean = calibration_curve(truth, probability, n_bins=bins)
    counts = np.bincount(bin_of(probability, bins))  # calibration_curve keeps its own counts to itself
    counts = counts[counts > 0]
    bounds = np.array([wilson(round(part * count), int(count)) for part, count in zip(share, counts, strict=True)])
    return mean, share, bounds[:, 0], bounds[:, 1]


def _checked(truth: npt.ArrayLike, probability: npt.ArrayLike) -> tuple[Truth, Floats]:
    truth, probability = np.asarray(truth), np.asarray(probability, dtype=np.float64)
    if truth.ndim != 1 or truth.shape != probability.shape or not len(truth):
        raise ValueError(
            f"truth and probability: expected two arrays (n,) of one length n >= 1, "
            f"got shapes {truth.shape} and {probability.shape}"
        )
    unknown = ~np.isin(truth, (0, 1))
    if unknown.any():
        raise ValueError(
            f"truth: expected labels 0 and 1, got {truth[unknown].tolist()[0]!r} "
            f"({np.count_nonzero(unknown)} of {len(truth)} are neither)"
        )
    outside = ~((probability >= 0) & (probability <= 1))  # true for NaN as well
    if outside.any():
        raise ValueError(
            f"probability: expected 0 to 1, got {probability[outside][0]} "
            f"({np.count_nonzero(outside)} of {len(probability)} are outside)"
        )
    return truth.astype(np.int64), probability


def _has_both(truth: Truth) -> bool:
    return bool(0 < truth.sum() < len(truth))


def _errors(truth: Truth, probability: Floats) -> dict[str, float]:
    """Errors of the probabilities against 0 and 1, as the published work reports them; the Brier score is their MSE."""
    mse = float(np.mean((probability - truth) ** 2))
    return {"mse": mse, "mae": float(np.mean(np.abs(probability - truth))), "rmse": mse**0.5, "brier": mse}


def _others(truth: Truth, probability: Floats, threshold: float, terms: Terms) -> dict[str, float | None]:
    """Figures that scikit-learn does not have."""
    once = Curve(truth, probability, threshold).figures(np.ones((1, len(truth)), np.int64), terms.prevalence)
    return {name: _number(once[name][0]) for name in ("ppv", "npv", *AT, "ece")}


def _bootstrap(
    truth: Truth,
    probability: Floats,
    others: dict[str, float | None],
    threshold: float,
    patients: npt.ArrayLike,
    terms: Terms,
) -> dict[str, Any]:
    drawn = draw(truth, probability, threshold, patients, terms)
    intervals = bounds(drawn) if drawn else {}
    if intervals:
        intervals["ece"] = mirrored(intervals["ece"], others["ece"])
    found = {"patients": len(np.unique(np.asarray(patients))), "resamples": terms.resamples, "seed": terms.seed}
    return found | {"intervals": intervals}


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None
