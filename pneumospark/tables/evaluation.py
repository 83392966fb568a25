"""Predictions beside the labels of their images: what evaluation judges."""

from collections.abc import Sequence
from typing import Any

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType

from pneumospark.errors import TableError
from pneumospark.labels import NORMAL, PNEUMONIA
from pneumospark.tables.history import current

KEPT = ("path", "image_id", "label", "split", "patient", "prediction", "probability", "threshold")


def one_model(predictions: DataFrame, model_id: str | None, uri: str) -> str:
    """The model to judge; raises TableError where it has no predictions, or where several have and none is named.

    `uri` is the table's, for errors, here and below.
    """
    found = sorted(row["model_id"] for row in predictions.select("model_id").distinct().collect())
    if model_id is None and len(found) != 1:
        raise TableError(f"{uri}: expected predictions of one model, found {found}; name one with --model-id")
    if model_id is not None and model_id not in found:
        raise TableError(f"{uri}: expected predictions of model {model_id}, found those of {found}")
    return model_id or found[0]


def of_model(predictions: DataFrame, model_id: str) -> DataFrame:
    """The predictions of one model."""
    return predictions.where(F.col("model_id") == model_id)


def of_split(rows: DataFrame, split: str) -> DataFrame:
    """The rows of one split, or of "all"."""
    return rows if split == "all" else rows.where(F.col("split") == split)


def labelled(predictions: DataFrame, images: DataFrame, facts: Sequence[str]) -> DataFrame:
    """KEPT columns and `facts` of each scored image that has a label; `facts` become one column, of arrays of text.

    A file that has changed counts as it is now, and once it has been scored as that. Equal bytes with two labels have
    none: nobody can say which is true, and `prepared` leaves them out as well. `patient` is the image itself where the
    patient is not known. Of one model. Raises TableError for a fact that `images` lack.
    """
    if unknown := set(facts) - (known := facts_of(images)):
        raise TableError(f"subgroups: expected facts of images ({', '.join(sorted(known))}), got {sorted(unknown)}")
    patient = F.coalesce("patient_id", "image_id").alias("patient")
    of_image = F.struct(F.lit(0), *(_values(images, name).alias(name) for name in facts)).alias("facts")
    truth = _with_labels(images).where("labels = 1").select("path", "image_id", "label", "split", patient, of_image)
    return current(predictions).join(truth, ["path", "image_id"]).select(*KEPT, "facts")


def contradictory(images: DataFrame, split: str) -> int:
    """How many files of a split, or of "all", have two labels, by the labels of files of equal bytes: not judged."""
    return of_split(_with_labels(images), split).where("labels > 1").count()


def unscored(predictions: DataFrame, images: DataFrame, split: str) -> int:
    """How many normal or pneumonia images of a split, or of "all", no prediction counts for: no figure has them."""
    truth = judged(of_split(_with_labels(images), split)).where("labels = 1").select("path", "image_id")
    return truth.join(current(predictions), ["path", "image_id"], "left_anti").count()


def judged(rows: DataFrame) -> DataFrame:
    """Those rows that are normal or pneumonia."""
    return rows.where(F.col("label").isin(NORMAL, PNEUMONIA))


def others(rows: DataFrame) -> dict[str, dict[str, int]]:
    """Of other labels (other diseases): how many images, and how many of them the model calls pneumonia."""
    called = F.sum((F.col("probability") >= F.col("threshold")).cast("int"))
    found = rows.where(~F.col("label").isin(NORMAL, PNEUMONIA)).groupBy("label").agg(F.count("*"), called)
    return {label: {"n": n, "called": of_them} for label, n, of_them in sorted(found.collect())}


def cases(rows: DataFrame, facts: Sequence[str]) -> dict[str, Any]:
    """What is judged, as arrays (n,): `truth` 0 and 1, `probability`, `patients`, the `threshold`, and `groups`, which
    is fact -> (n,) lists of values. Figures need no bytes and no paths; a patient is a number.
    """
    frame = rows.select(
        (F.col("label") == PNEUMONIA).cast("long").alias("truth"),
        "probability",
        "threshold",
        F.xxhash64("patient").alias("patients"),
        *(F.col(f"facts.`{name}`").alias(f"fact {name}") for name in facts),
    ).toPandas()
    return {
        **{name: frame[name].to_numpy() for name in ("truth", "probability", "patients")},
        "threshold": float(frame["threshold"].iloc[0]),
        "groups": {name: [tuple(values) for values in frame[f"fact {name}"]] for name in facts},
    }


def paired(rows: DataFrame, predictions: DataFrame) -> dict[str, Any]:
    """`truth`, `patients`, and (probability, threshold) of the model of `rows` and of another one's `predictions`, on
    the images that both have scored. Raises TableError where there are none.
    """
    other = current(predictions).select(
        "path", "image_id", F.col("probability").alias("p2"), F.col("threshold").alias("t2")
    )
    frame = (
        rows.join(other, ["path", "image_id"])
        .select("label", "probability", "threshold", "p2", "t2", F.xxhash64("patient").alias("patients"))
        .toPandas()
    )
    if frame.empty:
        raise TableError("predictions: expected images that both models have scored, found none")
    return {
        "truth": (frame["label"] == PNEUMONIA).to_numpy(dtype="int64"),
        "first": (frame["probability"].to_numpy(), float(frame["threshold"].iloc[0])),
        "second": (frame["p2"].to_numpy(), float(frame["t2"].iloc[0])),
        "patients": frame["patients"].to_numpy(),
    }


def choose_split(rows: DataFrame, split: str, uri: str) -> str:
    """The split to judge; "auto" is test where there is one, else validation. TableError where it has no rows."""
    found = {row["split"] for row in rows.select("split").distinct().collect()}
    if split == "auto":
        split = "test" if "test" in found else "validation"
    if split not in found and not (split == "all" and found):
        raise TableError(
            f"{uri}: expected labelled images of split {split}, found those of {sorted(found)}; were they scored?"
        )
    return split


def balance(rows: DataFrame) -> dict[str, dict[str, int]]:
    """Images by split and label."""
    found: dict[str, dict[str, int]] = {}
    for row in rows.groupBy("split", "label").count().orderBy("split", "label").collect():
        found.setdefault(row["split"], {})[row["label"]] = row["count"]
    return found


def mistakes(rows: DataFrame, count: int) -> DataFrame:
    """The surest mistakes, surest first: how far towards 0 or 1 the probability went from the threshold."""
    p, t = F.col("probability"), F.col("threshold")
    sure = F.when(p >= t, (p - t) / F.greatest(1 - t, F.lit(1e-12))).otherwise((t - p) / F.greatest(t, F.lit(1e-12)))
    wrong = (p >= t) != (F.col("label") == PNEUMONIA)
    return rows.where(wrong).orderBy(F.desc(sure), "path").limit(count)


def drawn(rows: DataFrame, without: Sequence[str], count: int) -> DataFrame:
    """Up to `count` further rows to look at, drawn by a hash of their path, without those of some paths."""
    return rows.where(~F.col("path").isin(*without)).orderBy(F.xxhash64("path")).limit(count)


def facts_of(images: DataFrame) -> set[str]:
    """The facts of images that can make subgroups: columns, and those of the manifest that ingest kept in `extra`."""
    further = images.select(F.explode(F.map_keys("extra"))).distinct().collect()
    return (set(images.columns) - {"content", "extra"}) | {row[0] for row in further}


def _with_labels(images: DataFrame) -> DataFrame:
    """The rows that count and have a label, and how many `labels` their bytes have."""
    of_bytes = F.collect_set("label").over(Window.partitionBy("image_id"))
    return current(images).where(F.col("label").isNotNull()).withColumn("labels", F.size(of_bytes))


def _values(images: DataFrame, fact: str) -> Column:
    """A fact as an array of text: none, one, or several values."""
    if fact in images.columns and isinstance(images.schema[fact].dataType, ArrayType):
        return F.coalesce(fact, F.array().cast("array<string>"))
    found = F.col(fact).cast("string") if fact in images.columns else F.col("extra")[fact]
    return F.array_compact(F.array(F.when(found != "", found)))
