"""The `predictions` table: read, prepare and predict each file in one pass on the executors."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from pneumospark.errors import DecodeError
from pneumospark.pixels.prepare import pixels_of
from pneumospark.schemas import PREDICTIONS
from pneumospark.spec import ImageSpec
from pneumospark.tables.images import Read, Row, packed, without_run_id
from pneumospark.tables.paths import Show

Predict = Callable[[NDArray[np.uint8]], NDArray[np.float64]]


@dataclass(frozen=True)
class Scorer:
    """What scoring decides by: the bundle's figures, and how many images share a forward pass."""

    model_id: str
    spec: ImageSpec
    labels: tuple[str, str]
    threshold: float
    scored_at: datetime
    batch_size: int
    max_pixels: int
    show: Show = str  # paths


def unscored(files: DataFrame, done: DataFrame) -> DataFrame:
    """Files that have no row in `done`, one model's predictions, which is younger than the file itself."""
    scores = done.groupBy("path").agg(F.max("scored_at").alias("scored_at"))
    due = F.col("scored_at").isNull() | (F.col("scored_at") < F.col("modified_at"))
    return files.join(scores, "path", "left").where(due).select(*files.columns)


def predictions(files: DataFrame, read: Read, make_predict: Callable[[], Predict], scorer: Scorer) -> DataFrame:
    """PREDICTIONS rows (without run_id) of those files (LISTED) that decode.

    `make_predict` is called on the executor, once a task: (n, height, width, channels) uint8 -> (n,) probability.
    """
    schema = without_run_id(PREDICTIONS)

    def rows(batches: Iterable[pa.RecordBatch]) -> Iterator[Row]:
        predict = make_predict()
        images = _prepared((row for batch in batches for row in batch.to_pylist()), read, scorer)
        while chunk := list(islice(images, scorer.batch_size)):
            yield from _scored(chunk, predict, scorer)

    return files.mapInArrow(lambda batches: packed(rows(batches), schema), schema)


def prepare_file(file: Row, read: Read, scorer: Scorer) -> tuple[str, NDArray[np.uint8]]:
    """image_id and prepared pixels of one file, the same way as in training; raises DecodeError."""
    content = read(file["path"])
    return hashlib.sha256(content).hexdigest(), pixels_of(content, scorer.spec, scorer.max_pixels)


def _prepared(files: Iterator[Row], read: Read, scorer: Scorer) -> Iterator[tuple[str, str, NDArray[np.uint8]]]:
    for file in files:
        try:
            yield file["path"], *prepare_file(file, read, scorer)
        except DecodeError:  # looked at again for the quarantine, as in `images.refused`
            continue


def _scored(chunk: list[tuple[str, str, NDArray[np.uint8]]], predict: Predict, scorer: Scorer) -> Iterator[Row]:
    probabilities = predict(np.stack([pixels for _, _, pixels in chunk]))
    common: dict[str, Any] = {
        "threshold": scorer.threshold,
        "model_id": scorer.model_id,
        "spec": scorer.spec.fingerprint(),
        "scored_at": scorer.scored_at,
    }
    for (path, image_id, _), probability in zip(chunk, probabilities.tolist(), strict=True):
        label = scorer.labels[int(probability >= scorer.threshold)]
        row = {"image_id": image_id, "path": scorer.show(path), "probability": probability, "prediction": label}
        yield row | common
