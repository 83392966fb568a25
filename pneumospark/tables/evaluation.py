"""Predictions beside the labels of their images: what evaluation judges."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from pneumospark.errors import TableError
from pneumospark.labels import NORMAL, PNEUMONIA
from pneumospark.tables.history import current


def one_model(predictions: DataFrame, model_id: str | None) -> str:
    """The model to judge; raises TableError where it has no predictions, or where several have and none is named."""
    found = sorted(row["model_id"] for row in predictions.select("model_id").distinct().collect())
    if model_id is None and len(found) != 1:
        raise TableError(f"predictions: expected those of one model, found {found}; name one with --model-id")
    if model_id is not None and model_id not in found:
        raise TableError(f"predictions: expected some of model {model_id}, found those of {found}")
    return model_id or found[0]


def judged(predictions: DataFrame, images: DataFrame) -> DataFrame:
    """path, label, split, prediction, probability, threshold of each scored image that is normal or pneumonia.

    Of one model. A file that has changed counts as it is now, and once it has been scored as that.
    """
    truth = current(images).where(F.col("label").isin(NORMAL, PNEUMONIA)).select("path", "image_id", "label", "split")
    return (
        current(predictions)
        .join(truth, ["path", "image_id"])
        .select("path", "label", "split", "prediction", "probability", "threshold")
    )


def choose_split(rows: DataFrame, split: str) -> str:
    """The split to judge; "auto" is test where there is one, else validation. TableError where it has no rows."""
    found = {row["split"] for row in rows.select("split").distinct().collect()}
    if split == "auto":
        split = "test" if "test" in found else "validation"
    if split not in found and not (split == "all" and found):
        raise TableError(
            f"predictions: expected labelled images of split {split}, found those of {sorted(found)}; were they scored?"
        )
    return split


def balance(rows: DataFrame) -> dict[str, dict[str, int]]:
    """Images by split and label."""
    found: dict[str, dict[str, int]] = {}
    for row in rows.groupBy("split", "label").count().orderBy("split", "label").collect():
        found.setdefault(row["split"], {})[row["label"]] = row["count"]
    return found


def gallery(rows: DataFrame, count: int) -> DataFrame:
    """Up to `count` rows to look at: a third are the surest mistakes, the rest are drawn by a hash of their path."""
    wrong = rows.where("prediction != label").withColumn("sure", F.abs(F.col("probability") - F.col("threshold")))
    mistakes = wrong.orderBy(F.desc("sure"), "path").limit(count // 3).drop("sure")
    others = rows.join(mistakes.select("path"), "path", "left_anti").select(*rows.columns)
    return mistakes.unionAll(others.orderBy(F.xxhash64("path")).limit(count)).limit(count)
