"""New image files into `predictions` by one bundle; files that are no images into `quarantine`. For a nightly schedule.

spark-submit jobs/score.py --source /data/tonight --bundle /models/pneumonia-1 --predictions /tables/predictions \\
    --quarantine /tables/quarantine
"""

import sys
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

from pyspark import StorageLevel
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from pneumospark.config import ScoreConfig
from pneumospark.errors import ConfigError, FoundError, LostRowsError, SourceError
from pneumospark.io import bundle, engine, runs
from pneumospark.io.files import canonical, resolve, store_of
from pneumospark.io.gallery import overlay_png
from pneumospark.io.lock import locked
from pneumospark.io.metering import Stopwatch, boot_seconds
from pneumospark.io.registry import bundle_uri
from pneumospark.io.run import Counts, check_drift, check_quarantined, log, run, versions
from pneumospark.io.runs_page import write_runs_page
from pneumospark.io.session import session, ship
from pneumospark.io.tables import append, new_run_id, read
from pneumospark.learn.drift import binned, compare
from pneumospark.learn.explainer import make_explain
from pneumospark.pipeline.plan import Job, Plan, planned, seen_uri
from pneumospark.schemas import EXPLANATIONS, PREDICTIONS, QUARANTINE, SEEN
from pneumospark.settings import parse
from pneumospark.tables import drift, paths, quality
from pneumospark.tables.images import refused
from pneumospark.tables.predictions import Scorer, explanations, predictions
from pneumospark.tables.sources import of_stage


def main(argv: list[str] | None = None) -> Counts:
    """Run the job; returns its counts."""
    config, _ = parse(ScoreConfig, argv)
    if bool(config.source) == bool(config.images):
        raise ConfigError("score: expected either --source or --images")
    if config.prepared and not config.images:
        raise ConfigError("score: --prepared has pixels and no paths: expected --images too, which it was made of")
    if bool(config.explanations) != (config.explain != "none"):
        raise ConfigError("score: --explain and --explanations belong together: give both or neither")
    new_run_id(config.run_id)  # raises ConfigError, before Spark starts
    time, is_first = Stopwatch(), SparkSession.getActiveSession() is None
    with time("start"):
        spark = session("score")
        store = store_of(spark)
        if config.source:
            resolve(config.source, store, "--source")
        model = bundle.read(bundle_uri(config.bundle), store)
    boot = {"boot": round(boot_seconds(spark), 1)} if is_first else {}
    job = Job(spark, config, store, model, time)
    if config.dry_run:
        return {"dry_run": True, "model_id": model.model_id, **planned(job).counts}
    with locked(canonical(config.predictions), store, "score", spark.sparkContext.cancelAllJobs):
        plan, run_id, table = planned(job), new_run_id(config.run_id), canonical(config.predictions)
        cut_off = runs.begin(run_id, table, store)
        counts = _score(job, plan, run_id, cut_off)
        stages = boot | time.seconds()
        counts |= {"stages": stages, "seconds": round(sum(stages.values()), 1)}
        counts |= {"versions": versions("pyspark", "tensorflow", "numpy", "pillow")}
        error = _found(counts, config)  # it holds these very counts
        counts["exit_code"] = error.exit_code if error else 0
        runs.record(summary := {"job": "score", **counts}, table, store)
        try:
            if config.summary:
                store.put(canonical(config.summary), runs.as_json(summary))
            if config.drift_page:
                write_runs_page(canonical(config.drift_page), runs.last(table, store), store)
        except SourceError as failure:
            if not error:
                raise
            log.error("score: %s", failure)  # what was found is said now or never: another run finds all known
    if error:
        raise error
    return counts


def _found(counts: Counts, config: ScoreConfig) -> FoundError | None:
    """What a person should see."""
    try:
        check_quarantined(counts, config.max_quarantined)
        if config.drift == "fail":
            check_drift(counts)
    except FoundError as error:
        return error
    return None


def _score(job: Job, plan: Plan, run_id: str, cut_off: list[str]) -> Counts:
    spark, config, store, model, time = job
    origin, files, touched, found, meter, show = plan
    predictions_uri, quarantine_uri = canonical(config.predictions), canonical(config.quarantine)
    of_run = F.col("run_id") == run_id
    shipped = f"bundle-{model.model_id}"
    ship(spark, model.folder, shipped)
    now = datetime.now(UTC)
    bundled = (model.model_id, model.spec, model.labels, model.threshold)
    scorer = Scorer(*bundled, now, config.batch_size, show, config.drift != "off", config.explain)
    thresholds = (model.facts.get("outputs") or {}).get("thresholds", {})
    scorer = replace(scorer, target=model.target, thresholds=thresholds)
    with time("engine"):
        runs_on = engine.choose(spark.sparkContext, config.engine, model, shipped, found["to_score"])
    log.info("score: engine %s", runs_on)
    make_predict = partial(engine.make_predict, shipped, runs_on)
    load = partial(engine.load_keras, shipped)
    explain = partial(make_explain, model.model_id, load, model.target, overlay_png) if config.explanations else None
    scored = explained = 0
    with time("scoring"):
        if found["to_score"]:
            rows = predictions(origin.rows(files), origin, make_predict, scorer, explain)
            if config.explanations:
                # First, since a prediction is the commit; kept, so that this is the one pass over the images.
                uri, rows = canonical(config.explanations), rows.persist(StorageLevel.DISK_ONLY)
                told = read(spark, uri, EXPLANATIONS, missing_ok=True)
                explained = append(explanations(rows, told), uri, EXPLANATIONS, run_id)
                rows = rows.select(*PREDICTIONS.names[:-1])
            scored = append(rows, predictions_uri, PREDICTIONS, run_id)
        everything = read(spark, predictions_uri, PREDICTIONS, missing_ok=True)
        table = everything.where(of_run)
    with time("quarantine"):
        lost = quality.unaccounted(files, paths.as_listed(table, files, show)).persist()
        bad = refused(origin.rows(lost), origin.load, "score", show) if lost.count() else None
        quarantined = append(bad, quarantine_uri, QUARANTINE, run_id) if bad else 0
        all_refusals = read(spark, quarantine_uri, QUARANTINE, missing_ok=True)
        refusals = all_refusals.where(of_run)
        still = paths.as_shown(quality.unaccounted(lost, paths.as_listed(refusals, files, show)), show)
        quality.check_all_accounted(still, "score")
    with time("counting"):
        if touched and not touched.isEmpty():
            append(paths.as_shown(touched, show), seen_uri(config), SEEN, run_id)
        outcome = {
            "images": scored,
            "quarantined": quarantined,
            "explained": explained,
            "predictions": quality.counts(table, "prediction"),
            "reasons": quality.counts(refusals, "reason"),
            "again": quality.refused_again(all_refusals, run_id) if quarantined else 0,
        }
        of_killed = F.col("run_id").isin(cut_off)
        unsaid = {"images": everything, "quarantined": of_stage(all_refusals, "score")}
        # Of runs that were killed before they could say so: this one finds their files known.
        outcome["unsaid"] = {name: rows.where(of_killed).count() if cut_off else 0 for name, rows in unsaid.items()}
    with time("drift"):
        # Those of a run that was killed before it could say so among them: it has scored them, so this one does not.
        since = runs.judged_last(predictions_uri, store, model.model_id)
        unjudged = everything.where((F.col("model_id") == model.model_id) & (F.col("run_id") > since))
        outcome["drift"] = _drift(unjudged, model.facts.get("reference"), config)
    if scored + quarantined != found["to_score"]:
        raise LostRowsError(f"score: expected {found['to_score']} rows and refusals, got {scored} and {quarantined}")
    return {"run_id": run_id, "model_id": model.model_id, "engine": runs_on, **found, **outcome, **meter.counts()}


def _drift(table: DataFrame, reference: dict[str, Any] | None, config: ScoreConfig) -> dict[str, Any]:
    if config.drift == "off":
        return {"drifted": [], "said": "nothing: it is off"}
    if not reference:
        log.warning("score: the bundle holds no figures of its validation images, so drift cannot be told")
        return {"drifted": [], "said": "nothing: the bundle holds no reference; those that train writes now do"}
    edges = {name: figure["edges"] for name, figure in reference["figures"].items()}
    found = drift.counts_in_bins(table, edges, binned)
    return compare(reference, found, config.drift_psi, config.drift_ks, config.drift_chance)


if __name__ == "__main__":
    sys.exit(run("score", main))
