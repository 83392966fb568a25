"""The report of an evaluation: `metrics.json` for programs, and one HTML page that opens offline for people."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from pneumospark.errors import DecodeError
from pneumospark.io import plots
from pneumospark.io.pages import THUMBNAIL, encoded, render
from pneumospark.pixels.prepare import pixels_of
from pneumospark.spec import ImageSpec

ROWS = {
    "accuracy": "Accuracy",
    "precision": "Precision",
    "recall": "Recall (sensitivity)",
    "specificity": "Specificity",
    "f1": "F1 score",
    "roc_auc": "Area under the ROC curve",
    "brier": "Brier score (mean squared error)",
    "mae": "Mean absolute error",
    "rmse": "Root mean squared error",
}

# B. Adepu, K. K. Bejjanki, "Medical Image Processing using Deep Learning Techniques in Big Data Perspective": from its
# confusion matrix of 190 tn, 44 fp, 11 fn, 379 tp
PUBLISHED = {"accuracy": 0.912, "precision": 0.896, "recall": 0.972, "f1": 0.932, "specificity": 0.812}


@dataclass(frozen=True, eq=False)
class Sample:
    """One image of the grid: `pixels` is uint8, height x width; `probability` is that of pneumonia, 0 to 1."""

    path: str
    pixels: npt.NDArray[np.uint8]
    label: str
    prediction: str
    probability: float

    def __post_init__(self) -> None:
        """Raise ValueError for other pixels."""
        if self.pixels.dtype != np.uint8 or self.pixels.ndim != 2:
            raise ValueError(
                f"pixels of {self.path}: expected uint8, height x width, got {self.pixels.dtype} {self.pixels.shape}"
            )

    @property
    def correct(self) -> bool:
        """Whether the prediction is the label."""
        return self.prediction == self.label


def samples(rows: Iterable[Mapping[str, Any]], read: Callable[[str], bytes]) -> list[Sample]:
    """Samples of rows with path, label, prediction, probability, read from the files; what is gone is left out."""
    return [sample for row in rows if (sample := _sample(row, read))]


def _sample(row: Mapping[str, Any], read: Callable[[str], bytes]) -> Sample | None:
    try:
        pixels = pixels_of(read(row["path"]), ImageSpec(THUMBNAIL, THUMBNAIL, fit="pad"))[:, :, 0]
    except DecodeError:  # changed or deleted since it was scored; the figures do not need it
        return None
    return Sample(row["path"], pixels, row["label"], row["prediction"], row["probability"])


def write_report(  # noqa: PLR0913 (keyword-only, each with a meaning of its own; a record would only repeat the names)
    folder: str,
    *,
    title: str,
    metrics: Mapping[str, Any],
    curves: Mapping[str, Any],
    truth: npt.NDArray[Any],
    probability: npt.NDArray[np.float64],
    balance: Mapping[str, Mapping[str, int]],
    samples: Sequence[Sample],
    facts: Mapping[str, str],
    open_for_write: Callable[[str], AbstractContextManager[IO[bytes]]],
) -> None:
    """Write `index.html` and `metrics.json` into `folder`, through `open_for_write(name)`, a binary file of any store.

    `metrics` and `curves` are what `learn.metrics` says of `truth` and `probability`, each (n,): this module draws, it
    does not judge. `balance` is split -> label -> images; `facts` say where the figures come from: the model, the
    tables, the versions.
    The page is complete before the first byte is written; `metrics.json` comes last, so its presence means both.
    Raises ValueError where `metrics` hold a NaN.
    """
    figures = json.dumps(metrics, indent=2, allow_nan=False)
    page = render(
        "report.html.j2",
        title=title,
        metrics=metrics,
        rows=ROWS,
        published=PUBLISHED,
        balance=balance,
        plots=_draw(metrics, curves, balance, truth, probability),
        samples=samples,
        facts=facts,
    )
    for name, text in (("index.html", page), ("metrics.json", figures)):
        with open_for_write(f"{folder.rstrip('/')}/{name}") as file:
            file.write(encoded(text))


def _draw(
    metrics: Mapping[str, Any],
    curves: Mapping[str, Any],
    balance: Mapping[str, Mapping[str, int]],
    truth: npt.NDArray[Any],
    probability: npt.NDArray[np.float64],
) -> dict[str, bytes]:
    return {
        "balance": plots.balance(balance),
        "confusion": plots.confusion(metrics["confusion"]),
        "roc": plots.roc(curves["roc"], metrics),
        "precision_recall": plots.precision_recall(curves["precision_recall"], metrics),
        "reliability": plots.reliability(curves["reliability"]),
        "histogram": plots.histogram(truth, probability, metrics["threshold"]),
    }
