"""`predictions` against the labels of `images`: metrics.json and a report to open in a browser.

spark-submit jobs/evaluate.py --predictions /tables/predictions --images /tables/images --report /reports/pneumonia-1
"""

import sys
from collections.abc import Sequence
from functools import partial
from itertools import zip_longest

from pyspark.sql import DataFrame, SparkSession

from pneumospark.config import EvaluateConfig
from pneumospark.errors import BundleError, ConfigError
from pneumospark.io import bundle, gallery
from pneumospark.io.files import canonical, store_of
from pneumospark.io.registry import bundle_uri
from pneumospark.io.report import write_report
from pneumospark.io.run import Counts, log, run, versions
from pneumospark.io.session import session
from pneumospark.io.tables import read
from pneumospark.learn.bootstrap import Terms
from pneumospark.learn.compare import compare
from pneumospark.learn.judge import Cases, Judgement, judge
from pneumospark.schemas import IMAGES, PREDICTIONS
from pneumospark.settings import parse
from pneumospark.tables import evaluation

MISTAKES, DRAWN = 12, 12
SUMMARY = ("accuracy", "precision", "recall", "specificity", "f1", "roc_auc", "mse", "mae", "rmse", "confusion")


def main(argv: list[str] | None = None) -> Counts:
    """Run the job; returns its counts."""
    config, _ = parse(EvaluateConfig, argv)
    terms = Terms(config.prevalence, config.resamples, config.seed)
    spark = session("evaluate")
    images = read(spark, canonical(config.images), IMAGES)
    predictions = read(spark, canonical(config.predictions), PREDICTIONS)
    model_id = evaluation.one_model(predictions, config.model_id, config.predictions)
    of_model = evaluation.of_model(predictions, model_id)
    scored = evaluation.labelled(of_model, images, config.subgroups).persist()
    split = evaluation.choose_split(evaluation.judged(scored), config.split, config.predictions)
    if split != "test":
        log.warning("evaluate: split %s: what chose a model's threshold and calibration says little of new ones", split)
    rows = evaluation.judged(evaluation.of_split(scored, split))
    externals = _externals(spark, config, model_id, terms)
    more: Counts = {"model_id": model_id, "split": split, "external": [external.figures for external in externals]}
    more |= _left_out(of_model, images, split, config.images)
    if config.against:
        second = evaluation.of_model(predictions, evaluation.one_model(predictions, config.against, config.predictions))
        tests = compare(**evaluation.paired(rows, second), terms=terms)
        more["comparison"] = {"first": model_id, "second": config.against, **tests}
    internal = _judged(f"{split} split", evaluation.of_split(scored, split), config.subgroups, terms, more)
    errors, drawn = _pictures(rows, images, config.bundle, model_id)
    facts = {"model": model_id, "split": split, "predictions": config.predictions, "images": config.images}
    write_report(
        canonical(config.report),
        internal=internal,
        externals=externals,
        balance=evaluation.balance(evaluation.judged(scored)),
        errors=errors,
        samples=drawn,
        facts=facts | versions("pyspark", "scikit-learn", "scipy"),
        open_for_write=store_of(spark).open_for_write,
    )
    figures = internal.figures
    chosen = {name: figures[name] for name in SUMMARY}
    page = f"{canonical(config.report)}/index.html"
    counts = {"images": figures["n"], **{name: figures[name] for name in ("unscored", "contradictory")}}
    return {"model_id": model_id, "split": split, **counts, **chosen, "report": page}


def _left_out(predictions: DataFrame, images: DataFrame, split: str, uri: str) -> Counts:
    """Labelled images that are in no figure, counted by why."""
    if unscored := evaluation.unscored(predictions, images, split):
        log.warning("evaluate: %s: %d labelled images, split %s, have no prediction: run score", uri, unscored, split)
    if both := evaluation.contradictory(images, split):
        log.warning(
            "evaluate: %s: %d files, split %s, are equal to one with another label: not judged", uri, both, split
        )
    return {"unscored": unscored, "contradictory": both}


def _judged(name: str, scored: DataFrame, facts: Sequence[str], terms: Terms, more: Counts) -> Judgement:
    cases = Cases(**evaluation.cases(evaluation.judged(scored), facts))
    log.info("evaluate: %d images of %s", len(cases.truth), name)
    return judge(name, cases, terms, {**more, "other_labels": evaluation.others(scored)})


def _externals(spark: SparkSession, config: EvaluateConfig, model_id: str, terms: Terms) -> list[Judgement]:
    """Each external set, judged by the same model, threshold and terms, over all its splits."""
    found = []
    for predictions_uri, images_uri in zip_longest(config.external_predictions, config.external_images):
        if not (predictions_uri and images_uri):
            raise ConfigError("evaluate: expected as many --external-predictions as --external-images")
        images = read(spark, canonical(images_uri), IMAGES)
        found_there = read(spark, canonical(predictions_uri), PREDICTIONS)
        predictions = evaluation.of_model(found_there, evaluation.one_model(found_there, model_id, predictions_uri))
        facts = [fact for fact in config.subgroups if fact in evaluation.facts_of(images)]
        scored = evaluation.labelled(predictions, images, facts).persist()
        evaluation.choose_split(evaluation.judged(scored), "all", predictions_uri)
        left_out = _left_out(predictions, images, "all", images_uri)
        found.append(_judged(images_uri, scored, facts, terms, left_out))
    return found


def _pictures(rows: DataFrame, images: DataFrame, uri: str | None, model_id: str) -> Sequence[list[gallery.Sample]]:
    """The surest mistakes, with overlays where the bundle is at hand, and others drawn at random."""
    wrong = [row.asDict() for row in evaluation.mistakes(rows, MISTAKES).collect()]
    drawn = [row.asDict() for row in evaluation.drawn(rows, [row["path"] for row in wrong], DRAWN).collect()]
    if uri is None:
        return [gallery.samples(some, images) for some in (wrong, drawn)]
    model = bundle.read(bundle_uri(uri), store_of(images.sparkSession))
    if model.model_id != model_id:
        raise BundleError(f"--bundle {uri}: expected that of model {model_id}, found that of {model.model_id}")
    from pneumospark.learn.explain import grad_cam  # TensorFlow, only where there is a network to explain

    explain = partial(grad_cam, bundle.load_model(model.folder / bundle.MODEL), target=model.target)
    seen = [gallery.samples(some, images, model.spec) for some in (wrong, drawn)]
    return [gallery.explained(seen[0], model.spec, explain), seen[1]]


if __name__ == "__main__":
    sys.exit(run("evaluate", main))
