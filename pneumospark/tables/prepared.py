"""The `prepared` table: each distinct image once, as the pixels of one ImageSpec."""

import sys

import pandas as pd
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F
from pyspark.sql.pandas.functions import pandas_udf

from pneumospark.errors import DecodeError, TableError
from pneumospark.pixels.prepare import pixels_of
from pneumospark.spec import ImageSpec

STATES = ("wanted", "known", "duplicate", "conflict")


def choose(images: DataFrame, done: DataFrame) -> DataFrame:
    """Every row of `images` by path, image_id, run_id and `state`; reads no pixels.

    "conflict": equal bytes have two labels; "duplicate": another row of the same bytes comes first (a labelled one,
    then by path); "known": `done` (prepared rows of this spec) has the image; "wanted": what is to be prepared.
    """
    same = Window.partitionBy("image_id")
    first = F.row_number().over(same.orderBy(F.col("label").isNull(), "path", "run_id"))
    labels = F.size(F.collect_set("label").over(same))
    state = (
        F.when(labels > 1, "conflict").when(first > 1, "duplicate").when(F.col("known"), "known").otherwise("wanted")
    )
    known = done.select("image_id", F.lit(True).alias("known"))
    rows = images.select("path", "image_id", "run_id", "label").join(known, "image_id", "left")
    return rows.select("path", "image_id", "run_id", state.alias("state"))


def prepared(images: DataFrame, chosen: DataFrame, spec: ImageSpec) -> DataFrame:
    """PREPARED rows (without run_id) of the images that `choose` calls wanted.

    Only the runs of ingest that hold one are read, and what is left out of these goes to every task, since it is
    little: so the bytes of the images are neither shuffled nor, where they are known, read.
    """
    runs = [row["run_id"] for row in chosen.where("state = 'wanted'").select("run_id").distinct().collect()]
    left_out = chosen.where(F.col("run_id").isin(runs) & (F.col("state") != "wanted")).drop("state")
    wanted = images.where(F.col("run_id").isin(runs)).join(F.broadcast(left_out), left_out.columns, "left_anti")
    return wanted.select(
        "image_id",
        "patient_id",
        "label",
        "split",
        _prepare(spec)("path", "content").alias("pixels"),
        F.lit(spec.fingerprint()).alias("spec"),
    )


def _prepare(spec: ImageSpec):  # type: ignore[no-untyped-def] # what pandas_udf returns has no public name
    @pandas_udf("binary")  # type: ignore[call-overload, untyped-decorator] # its stubs lack the form by type hints
    def pixels(paths: pd.Series, contents: pd.Series) -> pd.Series:
        return pd.Series([_pixels(path, content, spec) for path, content in zip(paths, contents, strict=True)])

    return pixels


def _pixels(path: str, content: bytes, spec: ImageSpec) -> bytes:
    try:
        return pixels_of(content, spec, max_pixels=sys.maxsize).tobytes()  # the limit was ingest's to set
    except DecodeError as error:
        raise TableError(f"images: {path}: expected an image that decodes, as it did at ingest; got {error}") from error
