"""What is to be scored, and how an executor comes to its pixels: files, rows of `images`, or pixels of `prepared`."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from pneumospark.errors import TableError
from pneumospark.pixels.dicom_header import DicomHeader
from pneumospark.pixels.prepare import picture_of
from pneumospark.schemas import LISTED
from pneumospark.spec import ImageSpec
from pneumospark.tables.ahead import Row, content_of, read_ahead
from pneumospark.tables.history import current
from pneumospark.tables.images import check_length
from pneumospark.tables.sources import spread

BROADCAST_ROWS = 500_000
"""Rows of names that every task may hold a copy of: some 100 MB."""


class Loaded(NamedTuple):
    """One image to score; width and height are native, as shown."""

    image_id: str
    pixels: NDArray[np.uint8]
    width: int
    height: int


@dataclass(frozen=True)
class Origin:
    """`listed`: every file there is, LISTED and, for tables, `image_id`. `rows`: of some of them, what a task gets.

    `load` makes an image of such a row, on an executor; raises DecodeError. It is not given a file's label. `ahead`
    gives a task's rows their bytes before their turn, where these have a long way. `without_pixels`: rows of `images`
    that count and that nothing has prepared.
    """

    listed: DataFrame
    rows: Callable[[DataFrame], DataFrame]
    load: Callable[[Row], Loaded]
    without_pixels: DataFrame | None = None
    ahead: Callable[[Iterator[Row]], Iterator[Row]] = iter

    @property
    def is_table(self) -> bool:
        """Whether rows say what bytes they are, so that nothing has to be read to find out."""
        return "image_id" in self.listed.columns


def of_files(
    listed: DataFrame,
    read: Callable[[str], bytes],
    spec: ImageSpec,
    max_pixels: int,
    check: Callable[[DicomHeader], None],
    file_bytes: int,
) -> Origin:
    """Files, read by the executors; `check` raises DecodeError for a DICOM header that is not to be scored."""
    return Origin(
        listed.select(*LISTED.names),
        lambda files: spread(files, file_bytes)[0],
        partial(_load_file, read=read, spec=spec, max_pixels=max_pixels, check=check),
        ahead=partial(read_ahead, read=read),
    )


def of_images(images: DataFrame, spec: ImageSpec, max_pixels: int) -> Origin:
    """The rows of `images` that count; their `content` is read, the files are not."""
    rows = images.select(*LISTED.names, "image_id", "run_id", "content")
    listed = current(rows.drop("content"))
    return Origin(listed, partial(_with_content, rows), partial(_load_content, spec=spec, max_pixels=max_pixels))


def of_prepared(images: DataFrame, prepared: DataFrame, spec: ImageSpec) -> Origin:
    """The rows of `images` that count and have pixels in `prepared` (rows that count, of any spec).

    `prepared` holds each distinct image once, without a path, while a prediction belongs to a file: so the paths come
    from `images`. A file's row is the same then, and has the same key, whichever way it was scored.
    Raises TableError where none of its rows are of the spec.
    """
    ours = prepared.where(F.col("spec") == spec.fingerprint())
    if ours.isEmpty():
        found = sorted(row["spec"] for row in prepared.select("spec").distinct().collect())
        raise TableError(f"--prepared: expected rows of the bundle's spec, {spec.fingerprint()}, found {found}")
    rows = current(images.select(*LISTED.names, "image_id", "run_id", "width", "height"))
    pixels_run = ours.select("image_id", F.col("run_id").alias("pixels_run"))
    listed = rows.join(pixels_run, "image_id").select(*rows.columns, "pixels_run")
    without = rows.join(pixels_run, "image_id", "left_anti")
    return Origin(listed, partial(_with_pixels, ours), partial(_load_pixels, spec=spec), without)


def _load_file(
    file: Row,
    read: Callable[[str], bytes],
    spec: ImageSpec,
    max_pixels: int,
    check: Callable[[DicomHeader], None],
) -> Loaded:
    check_length(file, max_pixels)
    content = content_of(file, read)
    return Loaded(hashlib.sha256(content).hexdigest(), *picture_of(content, spec, max_pixels, check))


def _load_content(row: Row, spec: ImageSpec, max_pixels: int) -> Loaded:
    return Loaded(row["image_id"], *picture_of(row["content"], spec, max_pixels))


def _load_pixels(row: Row, spec: ImageSpec) -> Loaded:
    if len(row["pixels"]) != spec.nbytes:
        raise TableError(f"prepared: image {row['image_id']}: expected {spec.nbytes} bytes, got {len(row['pixels'])}")
    pixels = np.frombuffer(row["pixels"], np.uint8).reshape(spec.shape)
    return Loaded(row["image_id"], pixels, row["width"], row["height"])


def _with_content(images: DataFrame, files: DataFrame) -> DataFrame:
    """`files` and their content: only the runs of ingest that hold one are read, and no bytes are shuffled.

    So every task gets the names that are wanted or, where these are most of all, those that are not.
    """
    key = ["path", "run_id"]
    of_runs = _of_runs(images, files, "run_id")
    if files.count() <= BROADCAST_ROWS:
        return of_runs.join(F.broadcast(files.select(*key)), key, "left_semi")
    left_out = of_runs.select(*key).join(files.select(*key), key, "left_anti")
    return of_runs.join(F.broadcast(left_out), key, "left_anti")


def _with_pixels(prepared: DataFrame, files: DataFrame) -> DataFrame:
    """`files` and their pixels, each image's as often as it has files; they are shuffled above BROADCAST_ROWS files."""
    pixels = _of_runs(prepared, files, "pixels_run").select("image_id", "pixels")
    wanted = files.select(*LISTED.names, "image_id", "width", "height")
    return pixels.join(F.broadcast(wanted) if files.count() <= BROADCAST_ROWS else wanted, "image_id")


def _of_runs(table: DataFrame, files: DataFrame, column: str) -> DataFrame:
    runs = [row[column] for row in files.select(column).distinct().collect()]
    return table.where(F.col("run_id").isin(runs))
