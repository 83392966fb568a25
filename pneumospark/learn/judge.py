"""One set of images, judged: figures, curves and subgroups together."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pneumospark.learn.bootstrap import Terms
from pneumospark.learn.metrics import Floats, curves, metrics
from pneumospark.learn.subgroups import Values, subgroups


@dataclass(frozen=True, eq=False)
class Cases:
    """Images that one model has scored: `truth` of 0 and 1, `probability`, `patients`, each (n,).

    `groups` is fact -> (n,) groups of each image, for `subgroups`.
    """

    truth: npt.NDArray[np.int64]
    probability: npt.NDArray[np.float64]
    patients: npt.NDArray[Any]
    threshold: float
    groups: Mapping[str, Values]


@dataclass(frozen=True, eq=False)
class Judgement:
    """A set's name, its cases, its `figures` ready for JSON (`subgroups` among them), and its curves."""

    name: str
    cases: Cases
    figures: dict[str, Any]
    curves: dict[str, tuple[Floats, ...] | None]


def judge(name: str, cases: Cases, terms: Terms, more: Mapping[str, Any]) -> Judgement:
    """Judge a set; `more` goes into its figures. Raises ValueError for cases that `metrics` does not take."""
    of_all = (cases.truth, cases.probability, cases.threshold, cases.patients)
    figures = {"name": name} | metrics(*of_all, terms)
    figures["subgroups"] = subgroups(*of_all, cases.groups, terms)
    return Judgement(name, cases, figures | dict(more), curves(cases.truth, cases.probability))
