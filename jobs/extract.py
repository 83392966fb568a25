"""`images` into `prepared` pixels of one image spec, and into CNN `features` of these where asked for.

spark-submit jobs/extract.py --images /tables/images --prepared /tables/prepared --set image.height=224
"""

import sys
from functools import partial

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from pneumospark.config import ExtractConfig
from pneumospark.errors import ConfigError, LostRowsError
from pneumospark.io import backbones, engine
from pneumospark.io.files import canonical, store_of
from pneumospark.io.lock import locked
from pneumospark.io.run import Counts, log, run
from pneumospark.io.session import session, ship
from pneumospark.io.tables import append, mark_stale, new_run_id, read, read_stale
from pneumospark.schemas import FEATURES, IMAGES, PREPARED
from pneumospark.settings import parse
from pneumospark.spec import ImageSpec
from pneumospark.tables import quality
from pneumospark.tables.features import choose_features, features
from pneumospark.tables.history import stale, unmarked
from pneumospark.tables.prepared import STATES, choose, prepared


def main(argv: list[str] | None = None) -> Counts:
    """Run the job; returns its counts."""
    config, spec = parse(ExtractConfig, argv)
    if bool(config.features) != bool(config.backbone):
        raise ConfigError("extract: --features and --backbone belong together: give both or neither")
    spark = session("extract")
    images, uri, store = read(spark, canonical(config.images), IMAGES), canonical(config.prepared), store_of(spark)
    with locked(uri, store, "extract", spark.sparkContext.cancelAllJobs):
        run_id = new_run_id()
        counts, rows = _prepare(images, uri, spec, run_id)
        if not config.features:
            return counts
        with locked(canonical(config.features), store, "extract", spark.sparkContext.cancelAllJobs):
            return counts | _features(config, spec, rows, run_id)


def _prepare(images: DataFrame, uri: str, spec: ImageSpec, run_id: str) -> tuple[Counts, DataFrame]:
    """The counts, and all rows of this spec."""
    spark, of_spec = images.sparkSession, F.col("spec") == spec.fingerprint()
    live = unmarked(read(spark, uri, PREPARED, missing_ok=True).where(of_spec), read_stale(spark, uri))
    chosen = choose(images, live).persist()
    states = dict.fromkeys(STATES, 0) | quality.counts(chosen, "state")
    log.info("extract: %s to %s, spec %s", states, spec.shape, spec.fingerprint())

    backbones.write_spec(uri, spec.fingerprint(), spec, store_of(spark))
    void = mark_stale(stale(live, chosen), uri, run_id)  # first: a row and the one in its place must never both count
    wanted = states["wanted"]
    written = append(prepared(images, chosen, spec), uri, PREPARED, run_id, spec.nbytes) if wanted else 0
    if written != wanted:
        raise LostRowsError(f"extract: expected {wanted} rows in {uri}/run_id={run_id}, found {written}")
    rows = read(spark, uri, PREPARED).where(of_spec)
    live = unmarked(rows, read_stale(spark, uri))
    quality.check_no_leak(live, ("patient_id", "image_id"), uri, "Ingest into a new table with other --splits.")
    counts = {"run_id": run_id, "rows": sum(states.values()), **states, "images": written, "stale": void}
    return counts | {"spec": spec.fingerprint()}, rows


def _features(config: ExtractConfig, spec: ImageSpec, rows: DataFrame, run_id: str) -> Counts:
    spark, uri = rows.sparkSession, canonical(str(config.features))
    store = store_of(spark)
    model = backbones.find(str(config.backbone), store)
    backbone = model.features_id(spec)
    live = unmarked(rows, read_stale(spark, canonical(config.prepared)))
    done = read(spark, uri, FEATURES, missing_ok=True).where(F.col("backbone") == backbone)
    done = unmarked(done, read_stale(spark, uri))
    chosen = choose_features(rows, live, done).persist()
    expected = chosen.where("state = 'wanted'").count()
    log.info("extract: %d of %d images need features, backbone %s", expected, live.count(), backbone)
    counts = {
        "features": expected,
        "stale_features": mark_stale(stale(done, chosen), uri, run_id),
        "backbone": backbone,
    }
    if not expected:
        return counts
    from pneumospark.learn.network import feature_extractor  # TensorFlow, only where there is work for it

    extractor = feature_extractor(model.load(), spec.shape)
    ship(spark, backbones.write_backbone(uri, model, extractor, spec, store), f"backbone-{backbone}")
    make_extract = partial(engine.make_extract, f"backbone-{backbone}", spec.shape)
    new = live.join(chosen.where("state = 'known'"), "image_id", "left_anti")
    row_bytes = 4 * extractor.output_shape[-1]
    written = append(features(new, backbone, make_extract, config.batch_size), uri, FEATURES, run_id, row_bytes)
    if written != expected:
        raise LostRowsError(f"extract: expected {expected} rows in {uri}/run_id={run_id}, found {written}")
    return counts


if __name__ == "__main__":
    sys.exit(run("extract", main))
