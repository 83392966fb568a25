"""The `prepared` table: each distinct image once, as the pixels of one ImageSpec."""

import sys
from collections.abc import Iterable, Iterator

import pyarrow as pa
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from pneumospark.errors import DecodeError, TableError
from pneumospark.pixels.prepare import pixels_of
from pneumospark.schemas import PREPARED
from pneumospark.spec import ImageSpec
from pneumospark.tables.ahead import Row
from pneumospark.tables.history import FACTS, with_state
from pneumospark.tables.images import packed, without_run_id

STATES = ("wanted", "known", "duplicate", "conflict", "replaced")


def choose(images: DataFrame, done: DataFrame) -> DataFrame:
    """Every row of `images` by path, image_id, run_id and `state`; reads no pixels.

    "replaced": the file has changed since, and has a newer row; "conflict": equal bytes have two labels; "duplicate":
    another row of the same bytes comes first (a labelled one, then by path); "known": `done` (rows of this spec that
    count) has the image with the same patient, label and split; "wanted": what is to be prepared.
    """
    replaced = F.col("run_id") < F.max("run_id").over(Window.partitionBy("path"))
    rows = with_findings(images).select("path", "image_id", "run_id", *FACTS).withColumn("replaced", replaced)
    same = Window.partitionBy("replaced", "image_id")
    first = F.row_number().over(same.orderBy(F.col("label").isNull(), "path", "run_id"))
    labels = F.size(F.collect_set("label").over(same))
    left_out = F.when(F.col("replaced"), "replaced").when(labels > 1, "conflict").when(first > 1, "duplicate")
    rows = with_state(rows.withColumn("left_out", left_out), done)
    return rows.select("path", "image_id", "run_id", F.coalesce("left_out", "state").alias("state"))


def prepared(images: DataFrame, chosen: DataFrame, spec: ImageSpec) -> DataFrame:
    """PREPARED rows (without run_id) of the images that `choose` calls wanted.

    Only the runs of ingest that hold one are read, and what is left out of these goes to every task, since it is
    little: so the bytes of the images are neither shuffled nor, where they are known, read.
    """
    runs = [row["run_id"] for row in chosen.where("state = 'wanted'").select("run_id").distinct().collect()]
    left_out = chosen.where(F.col("run_id").isin(runs) & (F.col("state") != "wanted")).drop("state")
    wanted = images.where(F.col("run_id").isin(runs)).join(F.broadcast(left_out), left_out.columns, "left_anti")
    schema = without_run_id(PREPARED)

    def rows(batches: Iterable[pa.RecordBatch]) -> Iterator[Row]:
        for batch in batches:
            for place in range(batch.num_rows):  # one by one: a batch of images is not held twice
                row = {name: batch[name][place].as_py() for name in batch.schema.names}
                yield {**row, "pixels": _pixels(row["path"], row.pop("content"), spec), "spec": spec.fingerprint()}

    columns = ("path", "content", "image_id", *FACTS)
    return with_findings(wanted).select(*columns).mapInArrow(lambda batches: packed(rows(batches), schema), schema)


def with_findings(images: DataFrame) -> DataFrame:
    """`images` with their findings as text: Petastorm reads no lists of several lengths."""
    return images.withColumn("findings", F.array_join(F.array_sort("findings"), "|"))


def _pixels(path: str, content: bytes, spec: ImageSpec) -> bytes:
    try:
        return pixels_of(content, spec, max_pixels=sys.maxsize).tobytes()  # the limit was ingest's to set
    except DecodeError as error:
        raise TableError(f"images: {path}: expected an image that decodes, as it did at ingest; got {error}") from error
