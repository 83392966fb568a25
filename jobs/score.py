"""New image files into `predictions` by one bundle; files that are no images into `quarantine`. For a nightly schedule.

spark-submit jobs/score.py --source /data/tonight --bundle /models/pneumonia-1 --predictions /tables/predictions \\
    --quarantine /tables/quarantine
"""

import sys
from datetime import UTC, datetime
from functools import partial

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from pneumospark.config import ScoreConfig
from pneumospark.errors import SourceError
from pneumospark.io import bundle, engine
from pneumospark.io.files import Store, canonical, resolve, store_of
from pneumospark.io.layouts import patient_key
from pneumospark.io.lock import locked
from pneumospark.io.metering import Meter
from pneumospark.io.run import Counts, check_quarantined, log, run
from pneumospark.io.session import session, ship
from pneumospark.io.tables import FILE_BYTES, append, new_run_id, read
from pneumospark.schemas import PREDICTIONS, QUARANTINE
from pneumospark.settings import parse
from pneumospark.tables import paths, quality
from pneumospark.tables.history import current, refused_now
from pneumospark.tables.images import refused
from pneumospark.tables.predictions import Scorer, predictions, prepare_file, unscored
from pneumospark.tables.sources import changed, list_files, settled, spread, without_known


def main(argv: list[str] | None = None) -> Counts:
    """Run the job; returns its counts."""
    config, _ = parse(ScoreConfig, argv)
    spark = session("score")
    store = store_of(spark)
    root = resolve(config.source, store, "--source")
    model = bundle.read(canonical(config.bundle), store)
    with locked(canonical(config.predictions), store, "score", spark.sparkContext.cancelAllJobs):
        counts = _score(spark, config, root, store, model)
    return check_quarantined(counts, config.max_quarantined)


def _score(spark: SparkSession, config: ScoreConfig, root: str, store: Store, model: bundle.Bundle) -> Counts:
    run_id, meter = new_run_id(), Meter(spark, store.read)
    show = paths.shown(config.paths, patient_key(config.patient_key_file, store))
    ship(spark, model.folder, f"bundle-{model.model_id}")
    scorer = Scorer(
        model.model_id,
        model.spec,
        model.labels,
        model.threshold,
        datetime.now(UTC),
        config.batch_size,
        config.max_pixels,
        show,
    )
    predictions_uri, quarantine_uri = canonical(config.predictions), canonical(config.quarantine)

    log.info("score: listing %s, model %s", root, model.model_id)
    listed = list_files(spark, root, store.list_folder).persist()
    if not (found := listed.count()):
        raise SourceError(f"--source {root}: expected image files, found none")
    done = read(spark, predictions_uri, PREDICTIONS, missing_ok=True).where(F.col("model_id") == model.model_id)
    done = current(done)
    refusals = settled(
        refused_now(read(spark, quarantine_uri, QUARANTINE, missing_ok=True), done), config.retry_quarantine
    )
    done = paths.as_listed(done, listed, show)
    due = without_known(unscored(listed, done), paths.as_listed(refusals, listed, show))
    files, count = spread(changed(due, done, meter.read).persist(), FILE_BYTES)
    log.info("score: %d files, %d of them to score", found, count)

    runs_on = engine.choose(spark.sparkContext, config.engine, model, f"bundle-{model.model_id}", count)
    log.info("score: engine %s", runs_on)
    make_predict = partial(engine.make_predict, f"bundle-{model.model_id}", runs_on)
    rows = predictions(files, meter.read, make_predict, scorer)
    scored = append(rows, predictions_uri, PREDICTIONS, run_id) if count else 0
    table = read(spark, predictions_uri, PREDICTIONS, missing_ok=True).where(F.col("run_id") == run_id)
    lost = quality.unaccounted(files, paths.as_listed(table, listed, show)).persist()
    bad = refused(lost, partial(prepare_file, read=meter.read, scorer=scorer), "score", show)
    quarantined = append(bad, quarantine_uri, QUARANTINE, run_id) if lost.count() else 0
    refusals = read(spark, quarantine_uri, QUARANTINE, missing_ok=True).where(F.col("run_id") == run_id)
    still = paths.as_shown(quality.unaccounted(lost, paths.as_listed(refusals, listed, show)), show)
    quality.check_all_accounted(still, "score")
    return {
        "run_id": run_id,
        "model_id": model.model_id,
        "engine": runs_on,
        "files": found,
        "known": found - count,
        "images": scored,
        "quarantined": quarantined,
        "predictions": quality.counts(table, "prediction"),
        "reasons": quality.counts(refusals, "reason"),
        **meter.counts(),
    }


if __name__ == "__main__":
    sys.exit(run("score", main))
