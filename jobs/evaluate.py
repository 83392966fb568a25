"""`predictions` against the labels of `images`: metrics.json and a report to open in a browser.

spark-submit jobs/evaluate.py --predictions /tables/predictions --images /tables/images --report /reports/pneumonia-1
"""

import sys

from pyspark.sql import Row

from pneumospark.config import EvaluateConfig, parse
from pneumospark.errors import DecodeError
from pneumospark.io.files import Store, canonical, store_of
from pneumospark.io.report import Sample, write_report
from pneumospark.io.run import Counts, log, run, versions
from pneumospark.io.session import session
from pneumospark.io.tables import read
from pneumospark.labels import PNEUMONIA
from pneumospark.learn.metrics import curves, metrics
from pneumospark.pixels.prepare import pixels_of
from pneumospark.schemas import IMAGES, PREDICTIONS
from pneumospark.spec import ImageSpec
from pneumospark.tables import evaluation, quality

THUMBNAIL = ImageSpec(height=192, width=192, fit="pad")
SAMPLES = 18


def main(argv: list[str] | None = None) -> Counts:
    """Run the job; returns its counts."""
    config, _ = parse(EvaluateConfig, argv)
    spark = session("evaluate")
    store, report = store_of(spark), canonical(config.report)
    images = read(spark, canonical(config.images), IMAGES)
    scored = read(spark, canonical(config.predictions), PREDICTIONS)
    model_id = evaluation.one_model(scored, config.model_id)
    rows = evaluation.judged(scored.where(scored["model_id"] == model_id), images).persist()
    split = evaluation.choose_split(rows, config.split)
    of_split = rows if split == "all" else rows.where(rows["split"] == split)
    judged = of_split.select("label", "probability", "threshold").toPandas()
    log.info("evaluate: %d images of split %s", len(judged), split)
    truth, probability = (judged["label"] == PNEUMONIA).to_numpy(dtype="int64"), judged["probability"].to_numpy()
    figures = metrics(truth, probability, float(judged["threshold"].iloc[0]))
    balance: dict[str, dict[str, int]] = {}
    for key, count in quality.counts(rows, "split", "label").items():
        name, label = key.split("/")
        balance.setdefault(name, {})[label] = count
    facts = {
        "model": model_id,
        "split": split,
        "predictions": config.predictions,
        "images": config.images,
    }
    write_report(
        report,
        title=f"pneumospark: {split} split",
        metrics=figures,
        curves=curves(truth, probability),
        truth=truth,
        probability=probability,
        balance=balance,
        samples=[sample for row in evaluation.gallery(of_split, SAMPLES).collect() if (sample := _sample(row, store))],
        facts=facts | versions("pyspark", "scikit-learn"),
        open_for_write=store.open_for_write,
    )
    chosen = {
        name: figures[name]
        for name in ("accuracy", "precision", "recall", "specificity", "f1", "roc_auc", "mse", "mae", "rmse")
    }
    return {
        "model_id": model_id,
        "split": split,
        "images": len(judged),
        **chosen,
        "confusion": figures["confusion"],
        "report": f"{report}/index.html",
    }


def _sample(row: Row, store: Store) -> Sample | None:
    try:
        pixels = pixels_of(store.read(row["path"]), THUMBNAIL)[:, :, 0]
    except DecodeError:  # the source file is gone since it was scored; the figures do not need it
        return None
    return Sample(row["path"], pixels, row["label"], row["prediction"], row["probability"])


if __name__ == "__main__":
    sys.exit(run("evaluate", main))
