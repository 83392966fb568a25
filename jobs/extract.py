"""`images` into `prepared` pixels of one image spec, and into CNN `features` of these where asked for.

spark-submit jobs/extract.py --images /tables/images --prepared /tables/prepared --set image.height=224
"""

import sys
from functools import partial

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from pneumospark.config import ExtractConfig, parse
from pneumospark.errors import ConfigError, LostRowsError
from pneumospark.io import bundle
from pneumospark.io.bundle import find_backbone, write_backbone, write_spec
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
    spark, uri = table.sparkSession, canonical(str(config.features))
    store = store_of(spark)
    model = find_backbone(str(config.backbone), store)
    backbone = model.features_id(spec)
    done = read(spark, uri, FEATURES, missing_ok=True).where(F.col("backbone") == backbone)
    new = table.join(done, "image_id", "left_anti")
    expected = new.count()
    log.info("extract: %d of %d images need features, backbone %s", expected, table.count(), backbone)
    if not expected:
        return {"features": 0, "backbone": backbone}
    from pneumospark.learn.network import feature_extractor  # TensorFlow, only where there is work for it

    extractor = feature_extractor(model.load(), spec.shape)
    ship(spark, write_backbone(uri, backbone, extractor, spec, store), f"backbone-{backbone}")
    make_extract = partial(bundle.make_extract, f"backbone-{backbone}", spec.shape)
    row_bytes = 4 * extractor.output_shape[-1]
    written = append(features(new, backbone, make_extract, config.batch_size), uri, FEATURES, run_id, row_bytes)
    if written != expected:
        raise LostRowsError(f"extract: expected {expected} rows in {uri}/run_id={run_id}, found {written}")
    return {"features": written, "backbone": backbone}


if __name__ == "__main__":
    sys.exit(run("extract", main))
