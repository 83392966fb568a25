"""Tables only grow: which of their rows count now, and which were made void by later ones."""

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

FACTS = ("patient_id", "label", "split", "findings")
"""What a row of `prepared` or `features` says of its image besides the pixels."""


def current(rows: DataFrame) -> DataFrame:
    """The newest row of each path: a changed file's new row makes its old one void. Use no bytes of images of these."""
    newest = F.max("run_id").over(Window.partitionBy("path"))
    return rows.withColumn("newest", newest).where("run_id = newest").drop("newest")


def refused_now(refusals: DataFrame, taken: DataFrame) -> DataFrame:
    """Refusals that stand: the newest of each path, unless a later run has `taken` the file in."""
    later = taken.groupBy("path").agg(F.max("run_id").alias("taken"))
    standing = F.col("taken").isNull() | (F.col("taken") < F.col("run_id"))
    return current(refusals).join(later, "path", "left").where(standing).select(*refusals.columns)


def with_state(rows: DataFrame, done: DataFrame) -> DataFrame:
    """`rows` and `state`: "known" where `done` has the image with the same FACTS, else "wanted"."""
    known = done.select("image_id", F.struct(*FACTS).alias("known"))
    same = F.col("known").isNotNull()
    for fact in FACTS:
        as_before = F.col(f"known.{fact}").eqNullSafe(F.col(fact))
        same &= as_before | F.col("known.findings").isNull() if fact == "findings" else as_before  # a row of 0.1
    state = F.when(same, "known").otherwise("wanted")
    return rows.join(known, "image_id", "left").select(*rows.columns, state.alias("state"))


def unmarked(rows: DataFrame, marks: DataFrame) -> DataFrame:
    """Rows of `prepared` or `features` that no row of STALE has made void."""
    void = marks.select("image_id", F.col("row_run_id").alias("run_id"))
    return rows.join(void, ["image_id", "run_id"], "left_anti")


def stale(rows: DataFrame, chosen: DataFrame) -> DataFrame:
    """STALE rows (without run_id) for those of `rows` whose image `chosen` (image_id, state) has, but not as "known".

    An image that is not in `chosen` is left alone: a table may be made from several others.
    """
    states = chosen.groupBy("image_id").agg(F.collect_set("state").alias("states"))
    reason = F.when(_has("wanted"), "relabelled").when(_has("conflict"), "conflict").otherwise("replaced")
    void = rows.select("image_id", "run_id").join(states.where(~_has("known")), "image_id")
    return void.select("image_id", F.col("run_id").alias("row_run_id"), reason.alias("reason"))


def _has(state: str) -> Column:
    return F.array_contains("states", state)
