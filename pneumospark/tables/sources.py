"""Source files as a DataFrame: list them on the executors, take off what is known."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from functools import reduce
from itertools import islice

import pandas as pd
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from pneumospark.errors import ConfigError, DecodeError, SourceError
from pneumospark.schemas import LISTED

ListFolder = Callable[[str], Iterable[tuple[str, bool, int, datetime]]]
DEEPEST = 64
"""Folders below the source: more is a loop of links."""

LISTED_AT_ONCE = 10_000
"""Entries of a folder in a worker's memory."""


def list_files(spark: SparkSession, root: str, list_folder: ListFolder) -> DataFrame:
    """Every file below `root` at any depth, LISTED; each level of folders is listed by the executors.

    Spark's own listing passes over names that begin with "_" or ".", reads "*" and "[" in names as patterns and keeps
    every file in the driver's memory: files would be lost in silence, or the driver with millions of them.
    """

    def entries(batches: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        columns = ["path", "is_folder", "length", "modified_at"]
        for batch in batches:
            for folder in batch["path"]:
                listing = _there(list_folder, folder, folder == root)
                while part := list(islice(listing, LISTED_AT_ONCE)):
                    frame = pd.DataFrame(part, columns=columns)
                    frame["modified_at"] = pd.to_datetime(frame["modified_at"], utc=True)
                    yield frame

    cores = spark.sparkContext.defaultParallelism
    folders = spark.range(1).select(F.lit(root).alias("path"))
    levels: list[DataFrame] = []
    for _ in range(DEEPEST):
        schema = "path string, is_folder boolean, length long, modified_at timestamp"
        level = (
            folders.repartition(cores if levels else 1).mapInPandas(entries, schema).persist()
        )  # listed once: a second listing may differ
        levels.append(level.where("not is_folder"))
        folders = level.where("is_folder").select("path")
        if not folders.count():
            return reduce(DataFrame.unionAll, levels).select(*LISTED.names)
    raise SourceError(f"{root}: more than {DEEPEST} levels of folders; is a link pointing back?")


def _there(list_folder: ListFolder, folder: str, is_root: bool) -> Iterator[tuple[str, bool, int, datetime]]:
    """A folder's entries; none where it was moved away since the folder above it was listed."""
    try:
        yield from list_folder(folder)
    except SourceError as error:
        if is_root or not isinstance(error.__cause__, FileNotFoundError):
            raise


def without_known(files: DataFrame, known: DataFrame) -> DataFrame:
    """Files that are not in `known` with the same path, length and modification time: the new and the changed ones."""
    return files.join(known.select(*LISTED.names).distinct(), LISTED.names, "left_anti")


def listings(done: DataFrame, seen: DataFrame) -> DataFrame:
    """How the files of `done` were listed: then, and whenever else they held the same bytes (SEEN)."""
    key = ["path", "image_id"]
    again = seen.join(done.select(*key), key, "left_semi")
    return done.select(*LISTED.names).union(again.select(*LISTED.names))


def modified_since(files: DataFrame, since: str | None) -> DataFrame:
    """Files whose time is not before `since`, ISO 8601, UTC unless it says otherwise; raises ConfigError for others."""
    if since is None:
        return files
    try:
        time = datetime.fromisoformat(since)
    except ValueError as error:
        raise ConfigError(f"--since {since!r}: expected a time such as 2026-11-24 or 2026-11-24T18:00") from error
    return files.where(F.col("modified_at") >= F.lit(time if time.tzinfo else time.replace(tzinfo=UTC)))


def of_stage(refusals: DataFrame, stage: str) -> DataFrame:
    """The refusals of one job: what `ingest` refuses (a leak, a modality) may be scored, and the other way round."""
    return refusals.where(F.col("stage") == stage)


def settled(refusals: DataFrame, retry: bool) -> DataFrame:
    """Refusals to go by: none with `retry`, else all but those of a store that failed, which may not fail now."""
    return refusals.where("false" if retry else "reason <> 'unreadable'")


def largest(max_pixels: int) -> int:
    """Bytes that a file of an image of so many pixels may have: 3 times 16 bits, uncompressed, and 64 MB beside them.

    Larger files are refused by their listed length, and not read: an archive among the images would not fit in memory.
    """
    return 6 * max_pixels + 64 * 2**20


def compared(
    due: DataFrame, done: DataFrame, read: Callable[[str], bytes], most: int
) -> tuple[DataFrame, DataFrame | None]:
    """What is `due` by its listing, as new or changed files and as SEEN rows (without run_id), None where none can be.

    Files have `replaces` besides, the image_id that their path has in `done`, null for a new path. Those that still
    hold these very bytes, a copy that was made anew, a touched file, are the SEEN rows. Only files of `most` bytes at
    most whose path is in `done`, a row for each path, are read for this.
    """

    # Not a UDF: Spark would move that below the joins, and so read files that are to be left alone.
    def same_bytes(batches: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        for batch in batches:
            same = [
                _hash_or_none(path, read) == seen for path, seen in zip(batch["path"], batch["replaces"], strict=True)
            ]
            yield batch.loc[same, ["path"]]

    if done.isEmpty():  # no seven small Spark jobs to find that out
        return due.withColumn("replaces", F.lit(None).cast("string")), None
    known = done.select("path", F.col("image_id").alias("replaces"))
    due = due.join(known, "path", "left").persist()  # or each use of it would go through the table anew
    readable = due.where((F.col("length") <= most) & F.col("replaces").isNotNull())
    same = readable.select("path", "replaces").mapInPandas(same_bytes, "path string").persist()
    touched = due.join(same, "path").select(*LISTED.names, F.col("replaces").alias("image_id"))
    return due.join(same, "path", "left_anti"), touched


def totals(files: DataFrame) -> Row:
    """How many `files` there are and how many `bytes` they have, as listed."""
    return files.selectExpr("count(*) as files", "coalesce(sum(length), 0) as bytes").collect()[0]


def spread(files: DataFrame, file_bytes: int) -> tuple[DataFrame, int]:
    """Files over tasks of about equal count, one per `file_bytes` of them, since each task writes one Parquet file.

    Returns how many files there are, too. Small corpora still keep every core busy, from some 32 files a task on.
    Counts and not bytes are equal: tasks that are packed by bytes leave one that runs long after the others. By path,
    so that the same files give the same table, row for row, in whatever order a store lists them.
    """
    bounded = F.least("length", F.lit(file_bytes))  # a file that is too large to be read must not make many tasks
    total = totals(files.withColumn("length", bounded))
    cores = files.sparkSession.sparkContext.defaultParallelism
    tasks = max(1, -(-total["bytes"] // file_bytes), min(cores, total["files"] // 32))
    if tasks > cores:
        tasks += -tasks % cores  # of nine tasks on two cores, one would run while the other core waits
    return files.repartition(tasks, "path").sortWithinPartitions("path"), total["files"]


def _hash_or_none(path: str, read: Callable[[str], bytes]) -> str | None:
    try:
        return hashlib.sha256(read(path)).hexdigest()
    except DecodeError:  # unreadable now: the job itself will say so
        return None
