"""What one look at each image's pixels gives: numbers of no medicine, and a hash that finds near duplicates."""

import sys
from collections.abc import Iterable, Iterator
from typing import Any

import pandas as pd
import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, DoubleType, IntegerType, StructField, StructType

from pneumospark.errors import DecodeError, TableError
from pneumospark.labels import NORMAL, PNEUMONIA
from pneumospark.pixels.facts import PIXEL_FACTS, pixel_facts
from pneumospark.pixels.likeness import likeness
from pneumospark.pixels.prepare import pixels_of
from pneumospark.schemas import IMAGES
from pneumospark.spec import ImageSpec
from pneumospark.tables.ahead import Row
from pneumospark.tables.history import FACTS
from pneumospark.tables.images import packed
from pneumospark.tables.prepared import choose, with_findings

CATEGORIES = ("format", "photometric")
STORED = ("image_id", "path", "patient_id", "label", "split", "width", "height", "length", "bits", *CATEGORIES)
FILE_FACTS = ("width", "height", "area", "aspect", "length", "bits", *CATEGORIES)
LOOK = StructType(
    [
        *(field for field in IMAGES if field.name in STORED),
        *(StructField(name, DoubleType()) for name in ("area", "aspect", *PIXEL_FACTS)),
        StructField("hash", ArrayType(IntegerType())),
    ]
)


def distinct(images: DataFrame) -> DataFrame:
    """Rows of `images` that count for training: the newest of each file, each image once, none of two labels.

    As in `prepared`, what is left out goes to every task, since it is little: so no bytes of images are shuffled.
    """
    chosen = choose(images, with_findings(images).select("image_id", *FACTS).limit(0))
    left_out = chosen.where("state <> 'wanted'").drop("state")
    return images.join(F.broadcast(left_out), left_out.columns, "left_anti")


def only_sample(images: DataFrame, count: int) -> DataFrame:
    """The rows of `images` that `sample` draws, without shuffling the bytes of others."""
    keys = sample(images.select("path", "image_id", "run_id", "label"), count).drop("label")
    return images.join(F.broadcast(keys), keys.columns, "left_semi")


def sample(rows: DataFrame, count: int) -> DataFrame:
    """Up to `count` rows that are normal or pneumonia, drawn by a hash of their image_id: the same ones every time."""
    labelled = rows.where(F.col("label").isin(NORMAL, PNEUMONIA))
    return labelled.orderBy(F.xxhash64("image_id"), "image_id").limit(count)


def looks(images: DataFrame, spec: ImageSpec) -> DataFrame:
    """A row of LOOK for each of `images`: what is stored of it, facts of its pixels as `spec` makes them, their hash.

    Bytes are decoded on the executors, one image at a time; the rows need a few hundred bytes each.
    Raises TableError, on the executor, for an image that no longer decodes.
    """

    def rows(batches: Iterable[pa.RecordBatch]) -> Iterator[Row]:
        for batch in batches:
            for place in range(batch.num_rows):
                row = {name: batch[name][place].as_py() for name in batch.schema.names}
                yield {**row, **_look(row["path"], row.pop("content"), spec), **_shape(row["width"], row["height"])}

    # not a UDF, which Spark would move below the joins that leave images out
    return images.select(*STORED, "content").mapInArrow(lambda batches: packed(rows(batches), LOOK), LOOK)


def trivial(seen: pd.DataFrame) -> tuple[pd.DataFrame, pd.Series, pd.Series]:
    """What the trivial model takes: facts, truth (1 is pneumonia) and patients, an unknown one being one by himself."""
    facts = seen[[*FILE_FACTS, *PIXEL_FACTS]].astype(dict.fromkeys(CATEGORIES, "category"))
    return facts, (seen["label"] == PNEUMONIA).astype("int64"), seen["patient_id"].fillna(seen["image_id"])


def near_duplicates(seen: DataFrame, distance: int) -> DataFrame:
    """Pairs of `looks` in two splits whose hashes differ in at most `distance` bits, the most alike first.

    path, other, split, other_split, distance; `images` and `others` count those of each side with just this hash,
    since a thousand blank films make one row and not a million. Compared are those that agree in one of the hash's
    numbers, in a join on the executors: of 13.7 million pairs of chest X-rays 17,000. These are all pairs up to 15 bits
    apart; were the bits drawn at random, 0.7 % of those 24 bits apart would agree in none, and 11 % of those 32.
    """
    groups = seen.groupBy("split", "hash").agg(F.min("path").alias("path"), F.count("*").alias("images"))
    parts = groups.select("*", F.posexplode("hash").alias("place", "bits"))
    others = parts.select(*(F.col(name).alias(f"other_{name}") for name in parts.columns))
    alike = (F.col("place") == F.col("other_place")) & (F.col("bits") == F.col("other_bits"))
    pairs = parts.join(others, alike & (F.col("split") < F.col("other_split")))
    found = pairs.select(
        "path",
        F.col("other_path").alias("other"),
        "split",
        "other_split",
        _bits_apart("hash", "other_hash").alias("distance"),
        "images",
        F.col("other_images").alias("others"),
    )
    return found.where(F.col("distance") <= distance).distinct().orderBy("distance", "path", "other")


def _bits_apart(one: str, other: str) -> Column:
    """Hamming distance of two arrays of whole numbers."""
    apart = F.zip_with(one, other, lambda a, b: F.bit_count(a.bitwiseXOR(b)))
    return F.aggregate(apart, F.lit(0), lambda total, bits: total + bits)


def _shape(width: int, height: int) -> dict[str, float]:
    return {"area": float(width * height), "aspect": width / height}


def _look(path: str, content: bytes, spec: ImageSpec) -> dict[str, Any]:
    try:
        pixels = pixels_of(content, spec, max_pixels=sys.maxsize)  # the limit was ingest's to set
    except DecodeError as error:
        raise TableError(f"images: {path}: expected an image that decodes, as it did at ingest; got {error}") from error
    return {"hash": likeness(pixels), **pixel_facts(pixels)}
