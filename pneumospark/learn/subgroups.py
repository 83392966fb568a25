"""Figures of parts of the images: by finding, by source, by any fact that tells groups of patients or of devices."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pneumospark.learn.bootstrap import DEFAULT_TERMS, Terms
from pneumospark.learn.metrics import metrics

Values = Sequence[Sequence[str]]
"""Of each image the groups that it belongs to: one, or several findings, or none."""

SMALL = 50
"""Images (or patients) below which a group is marked: the interval of a share of 0.9 then reaches 8 points or more."""

MOST = 12
"""Groups by one fact; numbers with more values are cut at their quartiles, of names the largest are kept."""

NONE, OTHERS = "(none)", "(others)"
FIGURES = ("recall", "specificity", "accuracy", "roc_auc")


def subgroups(
    truth: npt.NDArray[np.int64],
    probability: npt.NDArray[np.float64],
    threshold: float,
    patients: npt.NDArray[Any],
    groups: Mapping[str, Values],
    terms: Terms = DEFAULT_TERMS,
) -> list[dict[str, Any]]:
    """One record a group, by fact and then by size: its counts, `FIGURES`, and both kinds of intervals of these.

    All but `groups` are as in `metrics`; `groups` is fact -> (n,) groups of each image. A group of one class only (a
    kind of pneumonia) has its `roc_auc` against all images of the other class: `auc_against_all` says so.
    """
    found = []
    for fact, values in groups.items():
        members = _members(values)
        for value in sorted(members, key=lambda value: (-np.count_nonzero(members[value]), value)):
            inside = members[value]
            some = (truth[inside], probability[inside], threshold, patients[inside], terms)
            found.append({"fact": fact, "group": value} | _record(metrics(*some), patients[inside]))
            if len(np.unique(truth[inside])) == 1:
                wider = inside | (truth != truth[inside][0])
                _take_area(found[-1], metrics(truth[wider], probability[wider], threshold, patients[wider], terms))
    return found


def _record(figures: Mapping[str, Any], patients: npt.NDArray[Any]) -> dict[str, Any]:
    of_patients = figures["bootstrap"]["intervals"]
    count = len(np.unique(patients))
    return {
        "n": figures["n"],
        "patients": count,
        "positives": figures["positives"],
        "small": min(figures["n"], count) < SMALL,
        "auc_against_all": False,
        **{name: figures[name] for name in FIGURES},
        "intervals": {name: figures["intervals"][name] for name in FIGURES},
        "bootstrap": {name: of_patients.get(name) for name in FIGURES},
    }


def _take_area(record: dict[str, Any], figures: Mapping[str, Any]) -> None:
    record["roc_auc"], record["auc_against_all"] = figures["roc_auc"], True
    record["intervals"]["roc_auc"] = figures["intervals"]["roc_auc"]
    record["bootstrap"]["roc_auc"] = figures["bootstrap"]["intervals"].get("roc_auc")


def _members(values: Values) -> dict[str, npt.NDArray[np.bool_]]:
    """Group -> (n,) whether each image is in it."""
    named = [tuple(of_image) or (NONE,) for of_image in values]
    names, counts = np.unique([name for of_image in named for name in of_image], return_counts=True)
    if len(names) > MOST:
        named = _quartiles(named) or _largest(named, names[np.argsort(-counts, kind="stable")][: MOST - 1].tolist())
    return {
        str(name): np.array([name in of_image for of_image in named])
        for name in {name for of_image in named for name in of_image}
    }


def _quartiles(named: list[tuple[str, ...]]) -> list[tuple[str, ...]] | None:
    """Each number's quarter of the images; None where the values are no numbers."""
    try:
        numbers = np.array([float("nan" if of_image == (NONE,) else of_image[0]) for of_image in named])
    except ValueError:
        return None
    edges = np.unique(np.nanquantile(numbers, [0, 0.25, 0.5, 0.75, 1], method="lower"))
    quarter = np.searchsorted(edges[1:-1], numbers, side="left")
    return [
        (NONE,) if np.isnan(number) else (f"{'over ' if at else ''}{edges[at]:.15g} to {edges[at + 1]:.15g}",)
        for number, at in zip(numbers, quarter, strict=True)
    ]


def _largest(named: list[tuple[str, ...]], kept: list[str]) -> list[tuple[str, ...]]:
    return [tuple(dict.fromkeys(name if name in kept else OTHERS for name in of_image)) for of_image in named]
