"""What one look at each image's pixels gives: numbers of no medicine, and a hash that finds near duplicates."""

import sys
from typing import Any

import pandas as pd
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.functions import pandas_udf
from pyspark.sql.types import ArrayType, DoubleType, IntegerType, StructField, StructType

from pneumospark.errors import DecodeError, TableError
from pneumospark.labels import NORMAL, PNEUMONIA
from pneumospark.pixels.facts import PIXEL_FACTS, pixel_facts
from pneumospark.pixels.likeness import likeness
from pneumospark.pixels.prepare import pixels_of
from pneumospark.spec import ImageSpec

OWN = ("image_id", "path", "patient_id", "label", "split")
FILE_FACTS = ("width", "height", "area", "aspect", "length", "bits", "format", "photometric")
CATEGORIES = ("format", "photometric")
LOOK = StructType(
    [StructField("hash", ArrayType(IntegerType())), *(StructField(name, DoubleType()) for name in PIXEL_FACTS)]
)


def looks(images: DataFrame, spec: ImageSpec) -> DataFrame:
    """A row per distinct image: OWN, FILE_FACTS, `hash` and PIXEL_FACTS of its pixels as `spec` makes them.

    Bytes are decoded on the executors, a batch at a time; the rows hold numbers and need a few hundred bytes each.
    Raises TableError, on the executor, for an image that no longer decodes.
    """
    seen = images.select(
        *OWN,
        "width",
        "height",
        (F.col("width") * F.col("height")).alias("area"),
        (F.col("width") / F.col("height")).alias("aspect"),
        *FILE_FACTS[4:],
        _look(spec)("path", "content").alias("look"),
    )
    return seen.select(*OWN, *FILE_FACTS, "look.*").dropDuplicates(["image_id"])


def sample(rows: DataFrame, count: int) -> DataFrame:
    """Up to `count` rows that are normal or pneumonia, drawn by a hash of their image_id: the same ones every time."""
    labelled = rows.where(F.col("label").isin(NORMAL, PNEUMONIA))
    return labelled.orderBy(F.xxhash64("image_id"), "image_id").limit(count)


def trivial(seen: pd.DataFrame) -> tuple[pd.DataFrame, pd.Series, pd.Series]:
    """What the trivial model takes: facts, truth (1 is pneumonia) and patients, an unknown one being one by himself."""
    facts = seen[[*FILE_FACTS, *PIXEL_FACTS]].astype(dict.fromkeys(CATEGORIES, "category"))
    return facts, (seen["label"] == PNEUMONIA).astype("int64"), seen["patient_id"].fillna(seen["image_id"])


def near_duplicates(seen: DataFrame, distance: int) -> DataFrame:
    """Pairs of `looks` in two splits whose hashes differ in at most `distance` bits, the most alike first.

    path, other, split, other_split, distance; `images` and `others` count those of each side with just this hash,
    since a thousand blank films make one row and not a million. Compared are those that agree in one of the hash's
    numbers, in a join on the executors: of 13.7 million pairs of chest X-rays 17,000.
    """
    distinct = seen.groupBy("split", "hash").agg(F.min("path").alias("path"), F.count("*").alias("images"))
    parts = distinct.select("*", F.posexplode("hash").alias("place", "bits"))
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


def _look(spec: ImageSpec) -> Any:
    @pandas_udf(LOOK)  # type: ignore[call-overload, untyped-decorator] # its stubs lack the form by type hints
    def look(paths: pd.Series, contents: pd.Series) -> pd.DataFrame:
        rows = [_seen(path, content, spec) for path, content in zip(paths, contents, strict=True)]
        return pd.DataFrame(rows, columns=LOOK.names)

    return look


def _seen(path: str, content: bytes, spec: ImageSpec) -> dict[str, Any]:
    try:
        pixels = pixels_of(content, spec, max_pixels=sys.maxsize)  # the limit was ingest's to set
    except DecodeError as error:
        raise TableError(f"images: {path}: expected an image that decodes, as it did at ingest; got {error}") from error
    return {"hash": likeness(pixels), **pixel_facts(pixels)}
