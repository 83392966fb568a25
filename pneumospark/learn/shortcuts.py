"""How well facts that are no medicine tell the label: each by itself, and all together in a model of trees."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold
from threadpoolctl import threadpool_limits

from pneumospark.learn.intervals import delong

Floats = npt.NDArray[np.float64]
Truth = npt.NDArray[np.int64]

FOLDS = 5


def out_of_fold(
    facts: pd.DataFrame, truth: npt.ArrayLike, groups: npt.ArrayLike, seed: int = 0, folds: int = FOLDS
) -> Floats:
    """The trivial model's probability of pneumonia for each image, by trees that saw no image of its patient; (n,).

    `facts` is (n, k): numbers, where NaN is unknown, or columns of the pandas type category; `truth` is (n,) of 0 and
    1; `groups` is (n,), the patients. Folds hold whole patients and as equal a share of pneumonia as these allow. The
    same rows in the same order, with the same seed, give the same values.

    Raises ValueError for unequal lengths, and where one class has too few patients for two folds.
    """
    truth, groups = np.asarray(truth, dtype=np.int64), np.asarray(groups)
    if not len(facts) == len(truth) == len(groups):
        raise ValueError(f"facts, truth, groups: expected one length, got {len(facts)}, {len(truth)}, {len(groups)}")
    patients = rarer_patients(truth, groups)
    if (folds := min(folds, patients)) < 2:
        raise ValueError(f"expected at least 2 patients of each class for folds, found {patients} of the rarer one")
    probability = np.full(len(facts), np.nan)
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    # One thread: the trees' threads wait for each other, and on two cores with other work that made 3 seconds 73.
    with threadpool_limits(limits=1, user_api="openmp"):
        for others, fold in splitter.split(facts, truth, groups):
            # early stopping would set rows aside from 10,000 on, by chance and not by patient
            trees = HistGradientBoostingClassifier(random_state=seed, early_stopping=False)
            trees.fit(facts.iloc[others], truth[others])
            probability[fold] = trees.predict_proba(facts.iloc[fold])[:, 1]
    return probability


def rarer_patients(truth: npt.ArrayLike, groups: npt.ArrayLike) -> int:
    """How many patients the class with fewer of them has: the most folds that can be made, which need two."""
    truth, groups = np.asarray(truth), np.asarray(groups)
    return min(len(np.unique(groups[truth == label])) for label in (0, 1))


def audit(
    facts: pd.DataFrame, truth: npt.ArrayLike, groups: npt.ArrayLike, pixel_facts: Sequence[str], seed: int = 0
) -> dict[str, Any]:
    """What facts tell of the label, ready for JSON; the arguments are those of `out_of_fold`.

    `single` has a figure for each fact, the strongest first; `together` one for the trivial model from `pixels`, from
    `file` (all other facts) and from `all`, where there are some. The area under the ROC curve of one fact is folded
    to 0.5 or more, since a low value may stand for pneumonia as well as a high one, so chance alone gives a little
    above 0.5; a category is ordered by its own share of pneumonia. Intervals are DeLong's at 95 %, images taken for
    independent.
    """
    truth = np.asarray(truth, dtype=np.int64)
    origin = {name: "pixels" if name in pixel_facts else "file" for name in facts}
    sets = {of: [name for name in facts if of in (origin[name], "all")] for of in ("pixels", "file", "all")}
    single = [{"fact": name, "of": origin[name], **_alone(facts[name], truth)} for name in facts]
    together = {
        of: _figure(truth, out_of_fold(facts[names], truth, groups, seed)) for of, names in sets.items() if names
    }
    return {
        "images": len(truth),
        "pneumonia": int(truth.sum()),
        "patients": len(np.unique(np.asarray(groups))),
        "single": sorted(single, key=lambda row: (-row["auc"], row["fact"])),
        "together": together,
    }


def at_least(found: dict[str, Any], area: float) -> list[str]:
    """What tells the label with this area under the ROC curve or more: sets of facts, then single ones."""
    together = [f"together: {name}" for name, row in found["together"].items() if row["auc"] >= area]
    return [*together, *(row["fact"] for row in found["single"] if row["auc"] >= area)]


def _alone(values: pd.Series, truth: Truth) -> dict[str, Any]:
    """Area, interval and `sign` of one fact.

    The sign is "+" where a high value stands for pneumonia, "-" where a low one does, "" where all images have the
    same one, and None for a category. An unknown number counts as the middle one.
    """
    if values.nunique(dropna=False) == 1:
        return {"sign": "", "auc": 0.5, "interval": None}
    if isinstance(values.dtype, pd.CategoricalDtype):
        codes = values.cat.codes.to_numpy()  # -1 where it is not known
        return {"sign": None, **_figure(truth, pd.Series(truth).groupby(codes).transform("mean").to_numpy())}
    numbers = values.fillna(values.median()).to_numpy(dtype=np.float64)
    up = roc_auc_score(truth, numbers) >= 0.5
    return {"sign": "+" if up else "-", **_figure(truth, numbers if up else -numbers)}


def _figure(truth: Truth, score: Floats) -> dict[str, Any]:
    return {"auc": float(roc_auc_score(truth, score)), "interval": delong(truth, score)}
