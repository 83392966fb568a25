"""`predictions` against the labels of `images`: metrics.json and a report to open in a browser.

spark-submit jobs/evaluate.py --predictions /tables/predictions --images /tables/images --report /reports/pneumonia-1
"""

import sys

from pneumospark.config import EvaluateConfig, parse
from pneumospark.io.files import canonical, store_of
from pneumospark.io.report import samples, write_report
from pneumospark.io.run import Counts, log, run, versions
from pneumospark.io.session import session
from pneumospark.io.tables import read
from pneumospark.labels import PNEUMONIA
from pneumospark.learn.metrics import curves, metrics
from pneumospark.schemas import IMAGES, PREDICTIONS
from pneumospark.tables import evaluation

SAMPLES = 18
SUMMARY = ("accuracy", "precision", "recall", "specificity", "f1", "roc_auc", "mse", "mae", "rmse", "confusion")


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
    facts = {"model": model_id, "split": split, "predictions": config.predictions, "images": config.images}
    write_report(
        report,
        title=f"pneumospark: {split} split",
        metrics=figures,
        curves=curves(truth, probability),
        truth=truth,
        probability=probability,
        balance=evaluation.balance(rows),
        samples=samples((row.asDict() for row in evaluation.gallery(of_split, SAMPLES).collect()), store.read),
        facts=facts | versions("pyspark", "scikit-learn"),
        open_for_write=store.open_for_write,
    )
    chosen = {name: figures[name] for name in SUMMARY}
    return {"model_id": model_id, "split": split, "images": len(judged), **chosen, "report": f"{report}/index.html"}


if __name__ == "__main__":
    sys.exit(run("evaluate", main))
