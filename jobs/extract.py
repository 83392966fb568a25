"""`images` into `prepared` pixels of one image spec, and into CNN `features` of these where asked for.

spark-submit jobs/extract.py --images /tables/images --prepared /tables/prepared --set image.height=224 --set image.width=224
"""

import sys
from functools import partial

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from pneumospark.config import ExtractConfig, parse
from pneumospark.errors import ConfigError, LostRowsError
from pneumospark.io.bundle import make_extract, open_model, write_backbone, write_spec
from pneumospark.io.files import canonical, store_of
from pneumospark.io.run import Counts, log, run
from pneumospark.io.session import session, ship
from pneumospark.io.tables import append, new_run_id, read
from pneumospark.schemas import FEATURES, IMAGES, PREPARED
from pneumospark.spec import ImageSpec
from pneumospark.tables import quality
from pneumospark.tables.features import features
from pneumospark.tables.prepared import STATES, choose, prepared


def main(argv: list[str] | None = None) -> Counts:
    """Run the job; returns its counts."""
    config, spec = parse(ExtractConfig, argv)
    if bool(config.features) != bool(config.backbone):
        raise ConfigError("extract: --features and --backbone belong together: give both or neither")
    spark, run_id = session("extract"), new_run_id()
    images, uri = read(spark, canonical(config.images), IMAGES), canonical(config.prepared)
    of_spec = F.col("spec") == spec.fingerprint()
    chosen = choose(images, read(spark, uri, PREPARED, missing_ok=True).where(of_spec)).persist()
    states = dict.fromkeys(STATES, 0) | quality.counts(chosen, "state")
    log.info("extract: %s to %s, spec %s", states, spec.shape, spec.fingerprint())

    write_spec(uri, spec.fingerprint(), spec, store_of(spark))
    wanted = states["wanted"]
    written = append(prepared(images, chosen, spec), uri, PREPARED, run_id, spec.nbytes) if wanted else 0
    if written != wanted:
        raise LostRowsError(f"extract: expected {wanted} rows in {uri}/run_id={run_id}, found {written}")
    table = read(spark, uri, PREPARED).where(of_spec)
    quality.check_no_leak(table, ("patient_id", "image_id"), uri, "Ingest into a new table with other --splits.")
    counts = {"run_id": run_id, "rows": sum(states.values()), **states, "images": written, "spec": spec.fingerprint()}
    return counts | (_features(config, spec, table, run_id) if config.features else {})


def _features(config: ExtractConfig, spec: ImageSpec, table: DataFrame, run_id: str) -> Counts:
    from pneumospark.learn.network import feature_extractor  # TensorFlow, only where features are asked for

    store, uri = store_of(table.sparkSession), canonical(str(config.features))
    extractor = feature_extractor(open_model(str(config.backbone), store), spec.shape)
    backbone, folder = write_backbone(uri, extractor, spec, store)
    name = f"backbone-{backbone}"
    ship(table.sparkSession, folder, name)
    done = read(table.sparkSession, uri, FEATURES, missing_ok=True).where(F.col("backbone") == backbone)
    new = table.join(done, "image_id", "left_anti")
    expected = new.count()
    log.info("extract: %d features of %d numbers, backbone %s", expected, extractor.output_shape[-1], backbone)
    rows = features(new, backbone, partial(make_extract, name, spec.shape), config.batch_size)
    written = append(rows, uri, FEATURES, run_id, 4 * extractor.output_shape[-1]) if expected else 0
    if written != expected:
        raise LostRowsError(f"extract: expected {expected} rows in {uri}/run_id={run_id}, found {written}")
    return {"features": written, "backbone": backbone}


if __name__ == "__main__":
    sys.exit(run("extract", main))
