"""Source files as a DataFrame: list them on the executors, take off what is known."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from functools import reduce

import pandas as pd
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.functions import pandas_udf

from pneumospark.errors import DecodeError, SourceError
from pneumospark.schemas import LISTED

ListFolder = Callable[[str], Iterable[tuple[str, bool, int, datetime]]]
DEEPEST = 64
"""Folders below the source: more is a loop of links."""


def list_files(spark: SparkSession, root: str, list_folder: ListFolder) -> DataFrame:
    """Every file below `root` at any depth, LISTED; each level of folders is listed by the executors.

    Spark's own listing passes over names that begin with "_" or ".", reads "*" and "[" in names as patterns and keeps
    every file in the driver's memory: files would be lost in silence, or the driver with millions of them.
    """

    def entries(batches: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        columns = ["path", "is_folder", "length", "modified_at"]
        for batch in batches:
            for folder in batch["path"]:
                frame = pd.DataFrame(list_folder(folder), columns=columns)
                frame["modified_at"] = pd.to_datetime(frame["modified_at"], utc=True)
                yield frame

    cores = spark.sparkContext.defaultParallelism
    folders = spark.createDataFrame([(root,)], "path string")
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


def without_known(files: DataFrame, known: DataFrame) -> DataFrame:
    """Files that are not in `known` with the same path, length and modification time: the new and the changed ones."""
    return files.join(known.select(*LISTED.names).distinct(), LISTED.names, "left_anti")


def without_same_bytes(files: DataFrame, done: DataFrame, read: Callable[[str], bytes]) -> DataFrame:
    """Files without those that are newer than their row in `done` (path, image_id) and yet hold the same bytes.

    Only files whose path is in `done` are read for this: a copy that was made anew, a touched file.
    """

    @pandas_udf("string")  # type: ignore[call-overload, untyped-decorator] # its stubs lack the form by type hints
    def image_ids(paths: pd.Series) -> pd.Series:
        return paths.map(lambda path: _hash_or_none(path, read))

    seen_before = files.join(done.select("path").distinct(), "path", "left_semi")
    hashed = seen_before.select("path", image_ids("path").alias("image_id"))
    return files.join(hashed.join(done, ["path", "image_id"], "left_semi"), "path", "left_anti")


def spread(files: DataFrame, file_bytes: int) -> DataFrame:
    """Files over tasks of about equal count, one per `file_bytes` of them, since each task writes one Parquet file.

    Small corpora still keep every core busy, from some 32 files a task on. Counts and not bytes are equal: tasks that
    are packed by bytes leave one that runs long after the others. By path, so that the same files give the same table,
    row for row, in whatever order a store lists them.
    """
    total = files.selectExpr("count(*) as files", "coalesce(sum(length), 0) as bytes").collect()[0]
    cores = files.sparkSession.sparkContext.defaultParallelism
    tasks = max(1, -(-total["bytes"] // file_bytes), min(cores, total["files"] // 32))
    return files.repartition(tasks, "path").sortWithinPartitions("path")


def _hash_or_none(path: str, read: Callable[[str], bytes]) -> str | None:
    try:
        return hashlib.sha256(read(path)).hexdigest()
    except DecodeError:  # unreadable now: the job itself will say so
        return None
