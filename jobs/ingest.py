"""Image files into the tables `images` and `quarantine`; a second run reads only what is new or changed.

spark-submit jobs/ingest.py --source /data/chest_xray --images /tables/images --quarantine /tables/quarantine
"""

import sys
from dataclasses import replace
from functools import partial

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from pneumospark.config import IngestConfig
from pneumospark.io.files import Store, canonical, resolve, store_of
from pneumospark.io.layouts import Layout, patient_key, recognise
from pneumospark.io.lock import locked
from pneumospark.io.run import Counts, check_quarantined, log, run
from pneumospark.io.session import session
from pneumospark.io.tables import FILE_BYTES, append, new_run_id, read
from pneumospark.pipeline.arrivals import arrived, seen_uri
from pneumospark.schemas import IMAGES, QUARANTINE, SEEN, UNMATCHED
from pneumospark.settings import parse
from pneumospark.split import check_shares
from pneumospark.tables import labels, paths, quality
from pneumospark.tables.history import current
from pneumospark.tables.images import Rules, image_row, images, refused
from pneumospark.tables.sources import spread
from pneumospark.tables.ties import ties


def main(argv: list[str] | None = None) -> Counts:
    """Run the job; returns its counts."""
    config, _ = parse(IngestConfig, argv)
    spark = session("ingest")
    store = store_of(spark)
    root = resolve(config.source, store, "--source")
    layout = recognise(config, root, store)
    shares, key = check_shares(config.shares), patient_key(config.patient_key_file, store, layout.name)
    hiding = (key, config.dicom_check, config.burned_in, paths.shown(config.paths, key))
    with locked(canonical(config.images), store, "ingest", spark.sparkContext.cancelAllJobs):
        rules = Rules(root, new_run_id(), config.max_pixels, shares, config.salt, *hiding)
        counts = _ingest(spark, config, store, layout, rules)
    return check_quarantined(counts, config.max_quarantined)


def _ingest(spark: SparkSession, config: IngestConfig, store: Store, layout: Layout, rules: Rules) -> Counts:
    root, run_id, show = rules.source, rules.ingest_id, rules.show
    images_uri, quarantine_uri = canonical(config.images), canonical(config.quarantine)
    log.info("ingest: listing %s, layout %s", root, layout.name)
    listed, found, lookup, new, touched, done, before, is_first, meter = arrived(spark, config, store, layout, rules)
    files, count = spread(new, FILE_BYTES)
    log.info("ingest: %d files, %d of them new or changed", found, count)
    if count:
        paths.check_patients(done, rules.patient_key, images_uri)
        rules = replace(rules, ties=ties(new, done, meter.read, rules, layout.name == "dicom"))

    written = append(images(files, meter.read, rules), images_uri, IMAGES, run_id) if count else 0
    of_run = F.col("run_id") == run_id
    facts = ("path", "patient_id", "image_id", "label", "split", "run_id")
    added = read(spark, images_uri, IMAGES, missing_ok=True).where(of_run).select(*facts, "replaces").persist()
    lost = quality.unaccounted(new, paths.as_listed(added, listed, show)).persist()
    bad = refused(lost, partial(image_row, read=meter.read, rules=rules), "ingest", show)
    quarantined = append(bad, quarantine_uri, QUARANTINE, run_id) if (lost_count := lost.count()) else 0
    everything = read(spark, quarantine_uri, QUARANTINE, missing_ok=True)
    refusals = everything.where(of_run)
    if lost_count:
        still = paths.as_shown(quality.unaccounted(lost, paths.as_listed(refusals, listed, show)), show)
        quality.check_all_accounted(still, "ingest")
    unmatched = labels.unmatched(lookup, listed, root).persist() if lookup else None
    if unmatched and count and not unmatched.isEmpty():
        uri = f"{quarantine_uri}/_unmatched"
        append(paths.as_shown(unmatched, show), uri, UNMATCHED, run_id)
        log.warning("ingest: files without a label, or labels without a file: do their names agree? See %s", uri)
    advice = "Into a new table: other --splits, or one of two files of equal bytes taken away."
    # The lock keeps others out: what the run found and what it added is the table, which is not read a second time.
    now = current(before.select(*facts).unionAll(added.select(*facts))).drop("path", "run_id").persist()
    if touched and not touched.isEmpty():
        append(paths.as_shown(touched, show), seen_uri(config), SEEN, run_id)
    quality.check_no_leak(now, ("patient_id", "image_id"), images_uri, advice)
    return {
        "run_id": run_id,
        "files": found,
        "known": found - count,
        "images": written,
        "replaced": 0 if is_first else added.where("replaces is not null").count(),
        "quarantined": quarantined,
        "files_without_label": new.where("label is null").count(),
        "labels_without_file": unmatched.where("found_in = 'labels'").count() if unmatched else 0,
        "splits": quality.counts(now, "split", "label"),
        "reasons": quality.counts(refusals, "reason") if quarantined else {},
        "again": quality.refused_again(everything, run_id) if quarantined else 0,
        **meter.counts(),
    }


if __name__ == "__main__":
    sys.exit(run("ingest", main))
