"""Checks over tables: every file accounted for, no patient and no image in two splits, and what is in them."""

from functools import reduce

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from pneumospark.errors import LeakError, LostRowsError


def unaccounted(files: DataFrame, *tables: DataFrame) -> DataFrame:
    """Files whose path has a row in none of the tables."""
    for table in tables:
        files = files.join(table.select("path"), "path", "left_anti")
    return files


def check_all_accounted(lost: DataFrame, stage: str) -> None:
    """Raise LostRowsError, naming one, where files have neither a row nor a reason."""
    if rows := lost.limit(1).collect():
        raise LostRowsError(
            f"{stage}: {lost.count()} files have neither a row nor a quarantine row, {rows[0]['path']!r} among them; "
            "the store may have failed in between: run the job again"
        )


def refused_again(refusals: DataFrame, run_id: str) -> int:
    """How many files a run refused as unreadable that an earlier one did, too: tried each night, and no news."""
    of_run, key = F.col("run_id") == run_id, ["path", "length", "modified_at", "stage", "reason"]
    unreadable = refusals.where("reason = 'unreadable'").select(*key, "run_id")
    return unreadable.where(of_run).join(unreadable.where(~of_run), key, "left_semi").count()


def leaks(rows: DataFrame, key: str) -> DataFrame:
    """The values of `key` (patient_id, image_id) that have rows in more than one split, and these `splits`."""
    known = rows.where(F.col(key).isNotNull())
    splits = known.groupBy(key).agg(F.sort_array(F.collect_set("split")).alias("splits"))
    return splits.where(F.size("splits") > 1)


def check_no_leak(rows: DataFrame, keys: tuple[str, ...], table: str, advice: str) -> None:
    """Raise LeakError where one patient, or one image, has rows in more than one split."""
    of_key = (
        leaks(rows, key).select(F.lit(n).alias("key"), F.col(key).alias("value"), "splits")
        for n, key in enumerate(keys)
    )
    if first := reduce(DataFrame.unionAll, of_key).orderBy("key", "value").limit(1).collect():
        number, value, splits = first[0]
        key = keys[number]
        raise LeakError(
            f"{table}: {leaks(rows, key).count()} values of {key} are in more than one split, {value!r} in "
            f"{' and '.join(splits)}. {advice}"
        )


def composition(images: DataFrame, refusals: DataFrame | None) -> DataFrame:
    """Files, distinct images and patients by source, split, label and error: what is taken in, then what is refused.

    A refused file has no split or label; its source is one that `images` has and that its path begins with.
    """
    nothing = F.lit(None).cast("string")
    table = images.groupBy("source", "split", "label", nothing.alias("error")).agg(
        F.count("*").alias("files"),
        F.countDistinct("image_id").alias("images"),
        F.countDistinct("patient_id").alias("patients"),
    )
    if refusals is not None:
        below = (F.col("path") == F.col("source")) | F.startswith("path", F.concat("source", F.lit("/")))
        sources = F.broadcast(images.select("source").distinct())
        error = F.concat_ws(": ", "stage", "reason").alias("error")
        counted = refusals.join(sources, below, "left").groupBy("source", error).agg(F.countDistinct("path").alias("n"))
        zero = F.lit(0).cast("long")
        table = table.unionAll(
            counted.select("source", nothing, nothing, "error", "n", zero.alias("images"), zero.alias("patients"))
        )
    return table.orderBy(F.col("error").isNotNull(), "source", "split", "label", "error")


def counts(rows: DataFrame, *columns: str) -> dict[str, int]:
    """Rows by the values of some columns, joined by "/": for a job's summary."""
    grouped = rows.groupBy(*columns).count().collect()
    # Few rows, so sorted here: Spark would compute them twice, once to find the ranges by which it sorts.
    return dict(sorted(("/".join(str(row[column]) for column in columns), row["count"]) for row in grouped))
