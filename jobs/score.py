"""New image files into `predictions` by one bundle; files that are no images into `quarantine`. For a nightly schedule.

spark-submit jobs/score.py --source /data/tonight --bundle /models/pneumonia-1 --predictions /tables/predictions \\
    --quarantine /tables/quarantine
"""

import sys
from datetime import UTC, datetime
from functools import partial

from pyspark.sql import functions as F

from pneumospark.config import ScoreConfig, parse
from pneumospark.errors import SourceError
from pneumospark.io import bundle
from pneumospark.io.files import canonical, resolve, store_of
from pneumospark.io.run import Counts, log, run
from pneumospark.io.session import session, ship
from pneumospark.io.tables import FILE_BYTES, append, new_run_id, read
from pneumospark.schemas import PREDICTIONS, QUARANTINE
from pneumospark.tables import quality
from pneumospark.tables.images import refused
from pneumospark.tables.predictions import Scorer, predictions, prepare_file, unscored
from pneumospark.tables.sources import list_files, spread, without_known


def main(argv: list[str] | None = None) -> Counts:
    """Run the job; returns its counts."""
    config, _ = parse(ScoreConfig, argv)
    spark, run_id = session("score"), new_run_id()
    store = store_of(spark)
    root = resolve(config.source, store, "--source")
    model = bundle.read(canonical(config.bundle), store)
    ship(spark, model.folder, f"bundle-{model.model_id}")
    scorer = Scorer(
        model.model_id,
        model.spec,
        model.labels,
        model.threshold,
        datetime.now(UTC),
        config.batch_size,
        config.max_pixels,
    )
    predictions_uri, quarantine_uri = canonical(config.predictions), canonical(config.quarantine)

    log.info("score: listing %s, model %s", root, model.model_id)
    listed = list_files(spark, root, store.list_folder).persist()
    if not (found := listed.count()):
        raise SourceError(f"--source {root}: expected image files, found none")
    of_model = F.col("model_id") == model.model_id
    done = read(spark, predictions_uri, PREDICTIONS, missing_ok=True).where(of_model)
    refused_before = read(spark, quarantine_uri, QUARANTINE, missing_ok=True)
    files = spread(without_known(unscored(listed, done), refused_before).persist(), FILE_BYTES)
    count = files.count()
    log.info("score: %d files, %d of them to score", found, count)

    make_predict = partial(bundle.make_predict, f"bundle-{model.model_id}")
    scored = (
        append(predictions(files, done, store.read, make_predict, scorer), predictions_uri, PREDICTIONS, run_id)
        if count
        else 0
    )
    table = read(spark, predictions_uri, PREDICTIONS, missing_ok=True).where(of_model)
    lost = quality.unaccounted(files, table).persist()
    look = partial(prepare_file, read=store.read, scorer=scorer)
    bad = lost.count()
    quarantined = (
        append(refused(lost, lambda file: look(file["path"]), "score"), quarantine_uri, QUARANTINE, run_id)
        if bad
        else 0
    )
    refusals = read(spark, quarantine_uri, QUARANTINE, missing_ok=True)
    quality.check_all_accounted(quality.unaccounted(listed, table, refusals), "score")
    return {
        "run_id": run_id,
        "model_id": model.model_id,
        "files": found,
        "known": found - count,
        "images": scored,
        "quarantined": quarantined,
        "predictions": quality.counts(table.where(F.col("run_id") == run_id), "prediction"),
        "reasons": quality.counts(refusals.where(F.col("run_id") == run_id), "reason"),
    }


if __name__ == "__main__":
    sys.exit(run("score", main))
