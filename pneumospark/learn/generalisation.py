"""Whether a network has learnt more than shortcuts, by validation images alone: an AUC of 0.99 does not show it."""

from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import tensorflow as tf
from sklearn.metrics import roc_auc_score

from pneumospark.labels import PNEUMONIA
from pneumospark.learn.calibrate import logit_of
from pneumospark.learn.intervals import delong
from pneumospark.learn.shortcuts import out_of_fold
from pneumospark.pixels.facts import pixel_facts

Floats = npt.NDArray[np.float64]
Predict = Callable[[npt.NDArray[Any]], Floats]
PART = 5
"""The counter-shortcut part is a fifth of each class."""

FEWEST = 20
"""Patients of a group that is named: what fewer ids have in common could be a name, or most of a hash."""

CHANGES: dict[str, Callable[[Any], Any]] = {
    "taller": lambda x: tf.image.resize(x[:, _within(x.shape[1])], x.shape[1:3]),
    "wider": lambda x: tf.image.resize(x[:, :, _within(x.shape[2])], x.shape[1:3]),
    "blurred": lambda x: tf.nn.avg_pool2d(x, 3, 1, "SAME"),
    "brighter": lambda x: tf.minimum(x + 25, 255),
}
"""What no physician would call another finding: a fifth taller or wider, softer, 25 grey levels brighter."""


def generalisation(
    rows: Iterable[dict[str, Any]], predict: Predict, shape: tuple[int, ...], seed: int
) -> dict[str, Any]:
    """Figures of validation rows, ready for JSON; `rows` have patient_id, split, label and pixels (bytes of `shape`).

    `counter_shortcut`: of each class of validation the fifth that the trivial model (trees over PIXEL_FACTS, taught on
    training and validation, out of fold) gets most wrong; a network that leans on the same shortcuts fails there.
    `groups`: patients whose ids are alike but for their number, against all of the other class; the worst one counts.
    `dependence`: the mean and the spread of the logit's move under each of CHANGES, and of the logit itself.
    Raises ValueError where there are too few patients for folds, or validation images of one class only.
    """
    table, moves = _looked_at(rows, predict, shape)
    facts = table.drop(columns=["patient_id", "truth", "probability"])
    trivial = out_of_fold(facts, table["truth"], table["patient_id"], seed)
    judged = table.assign(wrong=np.abs(table["truth"] - trivial), trivial=trivial).dropna(subset="probability")
    if judged["truth"].nunique() < 2:
        raise ValueError("expected validation images with pneumonia and without, found those of one class only")
    ranked = judged.sort_values("wrong", ascending=False, kind="stable").groupby("truth")
    part = pd.concat([rows.head(max(1, len(rows) // PART)) for _, rows in ranked])
    return {
        "counter_shortcut": {
            **_auc(part),
            "trivial_roc_auc": float(roc_auc_score(part["truth"], part["trivial"])),
            "trivial_roc_auc_of_all": float(roc_auc_score(judged["truth"], judged["trivial"])),
        },
        "groups": _groups(judged),
        "dependence": {name: {"mean": float(np.mean(by)), "sd": float(np.std(by))} for name, by in moves.items()},
    }


def _within(side: int) -> slice:
    """The middle five sixths of a side."""
    return slice(margin := max(1, side // 12), side - margin)


def _looked_at(rows: Iterable[dict[str, Any]], predict: Predict, shape: tuple[int, ...]) -> tuple[pd.DataFrame, Any]:
    """A row of numbers per image, `probability` NaN outside validation; and logits, and their moves under CHANGES."""
    found: list[dict[str, Any]] = []
    moves: dict[str, list[float]] = {name: [] for name in ("logit", *CHANGES)}
    rows = iter(rows)
    while chunk := list(islice(rows, 32)):
        images = np.stack([np.frombuffer(row["pixels"], np.uint8).reshape(shape) for row in chunk])
        for row, image in zip(chunk, images, strict=True):
            truth = int(row["label"] == PNEUMONIA)
            found.append({**pixel_facts(image), "patient_id": row["patient_id"], "truth": truth, "probability": np.nan})
        validation = np.flatnonzero([row["split"] == "validation" for row in chunk])
        if not len(validation):
            continue
        kept = images[validation].astype(np.float32)
        probability = predict(kept)
        for at, value in zip(validation, probability, strict=True):
            found[len(found) - len(chunk) + at]["probability"] = value
        moves["logit"].extend(logit_of(probability))
        for name, change in CHANGES.items():
            moves[name].extend(logit_of(predict(np.asarray(change(tf.constant(kept))))) - logit_of(probability))
    return pd.DataFrame(found), moves


def _groups(judged: pd.DataFrame) -> dict[str, Any]:
    """AUC of each group of one class against all of the other, where ids show groups of FEWEST patients or more."""
    kinds = judged["patient_id"].str.replace(r"\d+$", "", regex=True)
    figures = {}
    for kind, rows in judged.groupby(kinds):
        if rows["patient_id"].nunique() >= FEWEST and kind and rows["truth"].nunique() == 1:
            others = judged[judged["truth"] != rows["truth"].iloc[0]]
            figures[str(kind)] = _auc(pd.concat([rows, others]))
    return figures


def _auc(rows: pd.DataFrame) -> dict[str, Any]:
    truth, probability = rows["truth"].to_numpy(), rows["probability"].to_numpy()
    return {
        "images": len(rows),
        "normal": int((truth == 0).sum()),
        "roc_auc": float(roc_auc_score(truth, probability)),
        "interval": delong(truth, probability),
    }
