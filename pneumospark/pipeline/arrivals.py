"""What a run of ingest finds: the files below its source, what the layout says of them, and which the table lacks."""

from typing import NamedTuple

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from pneumospark.config import IngestConfig
from pneumospark.errors import SourceError
from pneumospark.io.files import Store, canonical
from pneumospark.io.layouts import Layout, read_labels, read_second
from pneumospark.io.metering import Meter
from pneumospark.io.tables import SEEN_FOLDER, read
from pneumospark.schemas import IMAGES, LISTED, QUARANTINE, SEEN
from pneumospark.tables import labels, paths
from pneumospark.tables.history import current, refused_now
from pneumospark.tables.images import Rules
from pneumospark.tables.sources import compared, largest, list_files, listings, of_stage, settled, without_known
from pneumospark.tables.ties import COLUMNS


class Arrivals(NamedTuple):
    """What is `listed`, LISTED, and what of it is `new` or changed: LISTED, LABELS and `replaces`."""

    listed: DataFrame
    files: int  # that are listed
    lookup: DataFrame | None  # the layout's labels table
    new: DataFrame
    touched: DataFrame | None  # SEEN: hold what they held
    done: DataFrame  # rows of `images` that count, without their bytes, paths as listed
    before: DataFrame  # the same, paths as the table has them
    is_first: bool  # there are no such rows
    meter: Meter


def arrived(spark: SparkSession, config: IngestConfig, store: Store, layout: Layout, rules: Rules) -> Arrivals:
    """Compare what is listed with the tables; nothing is written. Raises SourceError where there is no file at all."""
    root, show, images_uri, meter = rules.source, rules.show, canonical(config.images), Meter(spark, store.read)
    listed = list_files(spark, root, store.list_folder).where(~F.col("path").isin(list(layout.own_files))).persist()
    if not (found := listed.count()):
        raise SourceError(f"--source {root}: expected image files, found none")
    paths.check_key(listed, rules.patient_key)
    lookup = labels.lookup(layout.name, read_labels(spark, layout), read_second(spark, layout))
    if lookup and layout.name == "manifest":
        labels.check_names(lookup, listed, root)
    columns = {*LISTED.names, *COLUMNS, "label", "run_id"}
    # Kept before the first look at it, which would read the whole table a second time.
    before = current(read(spark, images_uri, IMAGES, missing_ok=True).select(*sorted(columns))).persist()
    if is_first := not (kept := before.select("path").head()):
        before = before.unpersist()  # and Spark leaves out the joins with it
    else:
        paths.check_kind(kept["path"], show is not str, images_uri)
    refusals = of_stage(read(spark, canonical(config.quarantine), QUARANTINE, missing_ok=True), "ingest")
    refusals = settled(refused_now(refusals, before), config.retry_quarantine)
    done = paths.as_listed(before, listed, show)
    seen = paths.as_listed(read(spark, seen_uri(config), SEEN, missing_ok=True), listed, show)
    due = without_known(listed, done if is_first else listings(done, seen))
    due = without_known(due, paths.as_listed(refusals, listed, show))
    any_folder = layout.name != "dicom" and show is str
    new, touched = compared(due, done, meter.read, largest(config.max_pixels))
    new = labels.with_policy(labels.labelled(new, root, lookup, any_folder), config.splits).persist()
    return Arrivals(listed, found, lookup, new, touched, done, before, is_first, meter)


def seen_uri(config: IngestConfig) -> str:
    """Where the table `seen` of these images lies."""
    return f"{canonical(config.images)}/{SEEN_FOLDER}"
