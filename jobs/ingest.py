"""Image files into the tables `images` and `quarantine`; a second run reads only what is new or changed.

spark-submit jobs/ingest.py --source /data/chest_xray --images /tables/images --quarantine /tables/quarantine
"""

import sys
from functools import partial

from pyspark.sql import functions as F

from pneumospark.config import IngestConfig, parse
from pneumospark.errors import SourceError
from pneumospark.io.files import canonical, resolve, store_of
from pneumospark.io.layouts import patient_key, read_labels, read_test_list, recognise
from pneumospark.io.run import Counts, log, run
from pneumospark.io.session import session
from pneumospark.io.tables import FILE_BYTES, append, new_run_id, read
from pneumospark.schemas import IMAGES, QUARANTINE
from pneumospark.split import check_shares
from pneumospark.tables import labels, quality
from pneumospark.tables.images import Rules, image_row, images, refused
from pneumospark.tables.sources import list_files, spread, without_known, without_same_bytes


def main(argv: list[str] | None = None) -> Counts:
    """Run the job; returns its counts."""
    config, _ = parse(IngestConfig, argv)
    spark, run_id = session("ingest"), new_run_id()
    store = store_of(spark)
    root = resolve(config.source, store, "--source")
    images_uri, quarantine_uri = canonical(config.images), canonical(config.quarantine)
    layout = recognise(config, root, store)
    shares = check_shares(config.shares)
    rules = Rules(root, run_id, config.max_pixels, shares, config.salt, patient_key(layout))

    log.info("ingest: listing %s, layout %s", root, layout.name)
    listed = list_files(spark, root, store.list_folder).where(~F.col("path").isin(list(layout.own_files))).persist()
    if not (found := listed.count()):
        raise SourceError(f"--source {root}: expected image files, found none")
    lookup = labels.lookup(layout.name, read_labels(spark, layout), read_test_list(spark, layout))
    done = read(spark, images_uri, IMAGES, missing_ok=True)
    new = without_known(without_known(listed, done), read(spark, quarantine_uri, QUARANTINE, missing_ok=True))
    new = labels.labelled(without_same_bytes(new, done, store.read), root, lookup)
    files = spread(labels.with_policy(new, config.splits).persist(), FILE_BYTES)
    count = files.count()
    log.info("ingest: %d files, %d of them new or changed", found, count)

    written = append(images(files, store.read, rules), images_uri, IMAGES, run_id) if count else 0
    table = read(spark, images_uri, IMAGES, missing_ok=True)
    of_run = F.col("run_id") == run_id
    lost = quality.unaccounted(files, table.where(of_run)).persist()
    bad = refused(lost, partial(image_row, read=store.read, rules=rules), "ingest")
    quarantined = append(bad, quarantine_uri, QUARANTINE, run_id) if lost.count() else 0
    refusals = read(spark, quarantine_uri, QUARANTINE, missing_ok=True).where(of_run)
    quality.check_all_accounted(quality.unaccounted(files, table.where(of_run), refusals), "ingest")
    advice = "Into a new table: other --splits, or one of two files of equal bytes taken away."
    quality.check_no_leak(table, ("patient_id", "image_id"), images_uri, advice)
    return {
        "run_id": run_id,
        "files": found,
        "known": found - count,
        "images": written,
        "quarantined": quarantined,
        "files_without_label": files.where("label is null").count(),
        "labels_without_file": labels.without_file(lookup, listed, root).count() if lookup else 0,
        "splits": quality.counts(table, "split", "label"),
        "reasons": quality.counts(refusals, "reason"),
    }


if __name__ == "__main__":
    sys.exit(run("ingest", main))
