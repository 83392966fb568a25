"""The report of an evaluation: `metrics.json` for programs, and one HTML page that opens offline for people."""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import IO, Any, Protocol

import numpy as np
import numpy.typing as npt

from pneumospark.io import plots
from pneumospark.io.gallery import Sample
from pneumospark.io.pages import encoded, render

ROWS = {
    "recall": "Recall (sensitivity)",
    "specificity": "Specificity",
    "accuracy": "Accuracy",
    "precision": "Precision (PPV among these images)",
    "f1": "F1 score",
    "roc_auc": "Area under the ROC curve",
    "average_precision": "Average precision",
    "specificity_at_sensitivity_0.95": "Specificity at 95 % sensitivity †",
    "specificity_at_sensitivity_0.972": "Specificity at 97.2 % sensitivity †",
    "ppv": "Positive predictive value ‡",
    "npv": "Negative predictive value ‡",
    "brier": "Brier score (mean squared error)",
    "ece": "Expected calibration error §",
    "mae": "Mean absolute error",
    "rmse": "Root mean squared error",
}
BESIDE = (
    "recall",
    "specificity",
    "accuracy",
    "roc_auc",
    "specificity_at_sensitivity_0.95",
    "ppv",
    "npv",
    "brier",
    "ece",
)
"""What is shown of an external set beside the internal one."""

# B. Adepu, K. K. Bejjanki, "Medical Image Processing using Deep Learning Techniques in Big Data Perspective": from its
# confusion matrix of 190 tn, 44 fp, 11 fn, 379 tp
PUBLISHED = {"accuracy": 0.912, "precision": 0.896, "recall": 0.972, "f1": 0.932, "specificity": 0.812}


class Cases(Protocol):
    """Truth of 0 and 1, and probability, each (n,)."""

    @property
    def truth(self) -> npt.NDArray[np.int64]: ...  # noqa: D102
    @property
    def probability(self) -> npt.NDArray[np.float64]: ...  # noqa: D102


class Judgement(Protocol):
    """What `learn.judge` says of a set of images: this module draws, it does not judge."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def cases(self) -> Cases: ...  # noqa: D102
    @property
    def figures(self) -> dict[str, Any]: ...  # noqa: D102
    @property
    def curves(self) -> Mapping[str, Any]: ...  # noqa: D102


def write_report(  # noqa: PLR0913 (keyword-only, each with a meaning of its own; a record would only repeat the names)
    folder: str,
    *,
    internal: Judgement,
    externals: Sequence[Judgement] = (),
    balance: Mapping[str, Mapping[str, int]],
    errors: Sequence[Sample],
    samples: Sequence[Sample],
    facts: Mapping[str, str],
    open_for_write: Callable[[str], AbstractContextManager[IO[bytes]]],
) -> None:
    """Write `index.html` and `metrics.json` into `folder`, through `open_for_write(name)`, a binary file of any store.

    `internal.figures` is what becomes `metrics.json`; its `comparison`, if there is one, is shown too. `balance` is
    split -> label -> images; `errors` are the surest mistakes, `samples` other images; `facts` say where the figures
    come from: the model, the tables, the versions.
    The page is complete before the first byte is written; `metrics.json` comes last, so its presence means both.
    Raises ValueError where the figures hold a NaN.
    """
    figures = json.dumps(internal.figures, indent=2, allow_nan=False)
    page = render(
        "report.html.j2",
        title=f"pneumospark: {internal.name}",
        metrics=internal.figures,
        sets=[internal, *externals],
        rows=ROWS,
        beside={name: ROWS[name] for name in BESIDE},
        published=PUBLISHED,
        balance=balance,
        plots=_draw(internal, balance) | (_draw_beside([internal, *externals]) if externals else {}),
        errors=errors,
        samples=samples,
        facts=facts,
    )
    for name, text in (("index.html", page), ("metrics.json", figures)):
        with open_for_write(f"{folder.rstrip('/')}/{name}") as file:
            file.write(encoded(text))


def _draw(judged: Judgement, balance: Mapping[str, Mapping[str, int]]) -> dict[str, bytes]:
    figures, curves, cases = judged.figures, judged.curves, judged.cases
    return {
        "balance": plots.balance(balance),
        "confusion": plots.confusion(figures["confusion"]),
        "roc": plots.roc(curves["roc"], figures),
        "precision_recall": plots.precision_recall(curves["precision_recall"], figures),
        "reliability": plots.reliability(curves["reliability"]),
        "histogram": plots.histogram(cases.truth, cases.probability, figures["threshold"]),
    }


def _draw_beside(sets: Sequence[Judgement]) -> dict[str, bytes]:
    return {
        "rocs": plots.rocs([(judged.name, judged.curves["roc"]) for judged in sets]),
        "reliabilities": plots.reliabilities([(judged.name, judged.curves["reliability"]) for judged in sets]),
    }
