"""The `predictions` table: load, predict and look at each image in one pass on the executors."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from pneumospark.errors import DecodeError
from pneumospark.labels import OTHER, PNEUMONIA
from pneumospark.pixels.facts import pixel_facts
from pneumospark.pixels.heat import hottest
from pneumospark.schemas import EXPLAINED, EXPLANATIONS, PREDICTIONS, SIDES
from pneumospark.spec import ImageSpec
from pneumospark.tables.ahead import Row
from pneumospark.tables.images import packed, without_run_id
from pneumospark.tables.origins import Loaded, Origin
from pneumospark.tables.paths import Show
from pneumospark.tables.sources import listings, without_known
from pneumospark.targets import BINARY, Target

Predict = Callable[[NDArray[np.uint8]], NDArray[np.float64]]
Explain = Callable[[NDArray[np.uint8]], list[tuple[bytes, NDArray[np.float32]]]]
"""(n, height, width, channels) uint8 -> for each a picture as PNG, and heat (h, w) of 0 to 1."""


@dataclass(frozen=True)
class Scorer:
    """What scoring decides by: the bundle's figures, and how many images share a forward pass."""

    model_id: str
    spec: ImageSpec
    labels: tuple[str, str]
    threshold: float
    scored_at: datetime
    batch_size: int
    show: Show = str  # paths
    statistics: bool = True  # of the pixels, for drift
    explain: str = "positives"  # or "all", where explanations are wanted
    target: Target = BINARY
    thresholds: Mapping[str, float] = field(default_factory=dict)  # of each output of a target of several


def unscored(files: DataFrame, done: DataFrame, seen: DataFrame) -> DataFrame:
    """Files that have no row in `done`, a model's predictions that count, of the very file that is listed now.

    Another length or time is another file, an older time as well, unless `seen` (SEEN) says that it held the same
    bytes. Tables tell the bytes: there, image_id decides. Rows of before 0.2 have no length: there, a file counts as
    scored that is older than its row.
    """
    key = ["path", "image_id"]
    if "image_id" in files.columns:
        return files.join(done.select(*key), key, "left_anti")
    due = without_known(files, listings(done, seen))
    before = done.where(F.col("length").isNull()).select("path", "scored_at")
    newer = F.col("scored_at").isNull() | (F.col("modified_at") > F.col("scored_at"))
    return due.join(before, "path", "left").where(newer).select(*files.columns)


def predictions(
    rows: DataFrame,
    origin: Origin,
    make_predict: Callable[[], Predict],
    scorer: Scorer,
    make_explain: Callable[[], Explain] | None = None,
) -> DataFrame:
    """PREDICTIONS rows (without run_id) of those `rows` of an origin that load without a DecodeError.

    `make_predict` is called on the executor, once a task: (n, height, width, channels) uint8 -> (n, k) outputs. With
    `make_explain`, called where a task first needs it, rows have the columns EXPLAINED besides.
    """
    schema = without_run_id(PREDICTIONS)
    if make_explain:
        schema = StructType([*schema, *EXPLAINED])
    load, ahead = origin.load, origin.ahead  # executors get these, and not its DataFrame

    def scored(batches: Iterable[pa.RecordBatch]) -> Iterator[Row]:
        predict, explain = make_predict(), None
        images = _loaded(ahead(row for batch in batches for row in batch.to_pylist()), load)
        while chunk := list(islice(images, scorer.batch_size)):
            found = list(_scored(chunk, predict, scorer))
            wanted = [place for place, row in enumerate(found) if _explains(row, scorer)] if make_explain else []
            if make_explain and wanted:
                explain = explain or make_explain()
                for place, told in zip(wanted, _explained([chunk[n][1] for n in wanted], explain, scorer), strict=True):
                    found[place] |= told
            yield from found

    return rows.mapInArrow(lambda batches: packed(scored(batches), schema), schema)


def explanations(rows: DataFrame, done: DataFrame) -> DataFrame:
    """EXPLANATIONS rows (without run_id) of predictions that have been explained, without those that are in `done`."""
    key = ["path", "image_id", "model_id"]
    new = rows.where(F.col("png").isNotNull()).join(done.select(*key).distinct(), key, "left_anti")
    return new.select(*without_run_id(EXPLANATIONS).names)


def _loaded(rows: Iterator[Row], load: Callable[[Row], Loaded]) -> Iterator[tuple[Row, Loaded]]:
    for row in rows:
        try:
            image = load(row)
        except DecodeError:  # looked at again for the quarantine, as in `images.refused`
            continue
        yield {name: row[name] for name in ("path", "length", "modified_at")}, image


def _scored(chunk: list[tuple[Row, Loaded]], predict: Predict, scorer: Scorer) -> Iterator[Row]:
    outputs = predict(np.stack([image.pixels for _, image in chunk]))
    probabilities = np.clip(scorer.target.pneumonia(outputs), 0, 1)
    common: dict[str, Any] = {
        "threshold": scorer.threshold,
        "model_id": scorer.model_id,
        "spec": scorer.spec.fingerprint(),
        "scored_at": scorer.scored_at,
        **dict.fromkeys(EXPLAINED.names),
    }
    for (file, image), probability, given in zip(chunk, probabilities.tolist(), outputs.tolist(), strict=True):
        each = None if scorer.target.is_binary else dict(zip(scorer.target.outputs, given, strict=True))
        label = _called(probability, each, scorer)
        row = {"image_id": image.image_id, "path": scorer.show(file["path"])}
        facts = pixel_facts(image.pixels) if scorer.statistics else None
        yield (
            file
            | row
            | {
                "probability": probability,
                "prediction": label,
                "probabilities": each,
                "statistics": facts,
                **common,
            }
        )


def _called(probability: float, each: Mapping[str, float] | None, scorer: Scorer) -> str:
    """Pneumonia at its threshold; else normal, or other where another finding is at its own."""
    if probability >= scorer.threshold or scorer.target.name != "findings":
        return scorer.labels[int(probability >= scorer.threshold)]
    found = any((each or {})[name] >= at for name, at in scorer.thresholds.items() if name != PNEUMONIA)
    return OTHER if found else scorer.labels[0]


def _explains(row: Row, scorer: Scorer) -> bool:
    return scorer.explain == "all" or row["prediction"] == scorer.labels[1]


def _explained(images: list[Loaded], explain: Explain, scorer: Scorer) -> Iterator[Row]:
    """EXPLAINED of each image."""
    for image, (png, heat) in zip(images, explain(np.stack([image.pixels for image in images])), strict=True):
        box = hottest(heat, scorer.spec, image.width, image.height)
        in_pixels = box and dict(zip(SIDES, box.in_pixels(image.width, image.height), strict=True))
        yield {"png": png, "box": in_pixels, "relative_box": box and box._asdict()}
