"""What a run of score is to do: the files that this model has not scored, and how an executor comes to their pixels."""

from functools import partial
from typing import NamedTuple

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from pneumospark.config import ScoreConfig
from pneumospark.errors import SourceError
from pneumospark.io.bundle import Bundle
from pneumospark.io.files import Store, canonical
from pneumospark.io.layouts import patient_key
from pneumospark.io.logs import log
from pneumospark.io.metering import Meter, Stopwatch
from pneumospark.io.tables import FILE_BYTES, SEEN_FOLDER, read, read_stale
from pneumospark.pixels import dicom_header
from pneumospark.schemas import IMAGES, PREDICTIONS, PREPARED, QUARANTINE, SEEN
from pneumospark.tables import origins, paths
from pneumospark.tables.history import current, refused_now, unmarked
from pneumospark.tables.predictions import unscored
from pneumospark.tables.sources import (
    compared,
    largest,
    list_files,
    modified_since,
    of_stage,
    settled,
    totals,
    without_known,
)


class Job(NamedTuple):
    """What every step of a run needs."""

    spark: SparkSession
    config: ScoreConfig
    store: Store
    model: Bundle
    time: Stopwatch


class Plan(NamedTuple):
    """What a run is to do: `files`, LISTED and what its origin needs besides, are those to score."""

    origin: origins.Origin
    files: DataFrame
    touched: DataFrame | None  # SEEN: hold what they held
    counts: dict[str, int]
    meter: Meter
    show: paths.Show


def planned(job: Job) -> Plan:
    """Compare what is listed with the tables; nothing is written. Raises SourceError where there is no file at all."""
    spark, config, store, model, time = job
    meter, show = Meter(spark, store.read), paths.shown(config.paths, patient_key(config.patient_key_file, store))
    with time("listing"):
        origin = _origin(job, meter)
        everything = origin.listed.persist()
        if not (found := everything.count()):
            raise SourceError(f"{config.source or config.images}: expected image files, found none")
        listed = modified_since(everything, config.since)
        recent = listed.count() if config.since else found
    with time("choosing"):
        done = read(spark, canonical(config.predictions), PREDICTIONS, missing_ok=True)
        if kept := done.select("path").head():
            (given,) = everything.select("path").take(1)
            is_hashed = show(given["path"]).startswith(paths.HASHED)
            paths.check_kind(kept["path"], is_hashed, config.predictions)
        done = current(done.where(F.col("model_id") == model.model_id))
        refusals = of_stage(read(spark, canonical(config.quarantine), QUARANTINE, missing_ok=True), "score")
        refusals = settled(refused_now(refusals, done), config.retry_quarantine)
        done = paths.as_listed(done, listed, show)
        seen = paths.as_listed(read(spark, seen_uri(config), SEEN, missing_ok=True), listed, show)
        files, touched = without_known(unscored(listed, done, seen), paths.as_listed(refusals, listed, show)), None
        if not origin.is_table:
            files, touched = compared(files, done, meter.read, largest(config.max_pixels))
        size = totals(files := files.persist())
        total = size["files"]
        if config.limit and total > config.limit:
            files = files.orderBy("path").limit(config.limit).persist()
            size = totals(files)
    counts = {"files": found, "older": found - recent, "known": recent - total, "later": total - size["files"]}
    counts |= {"to_score": size["files"], "bytes_to_score": size["bytes"]}
    if origin.without_pixels and (lacking := modified_since(origin.without_pixels, config.since).count()):
        log.warning("score: %d files of --images have no pixels in --prepared and are left: run extract", lacking)
        counts["without_pixels"] = lacking
    log.info("score: %d files, %d of them to score by model %s", found, size["files"], model.model_id)
    return Plan(origin, files, touched, counts, meter, show)


def seen_uri(config: ScoreConfig) -> str:
    """Where the table `seen` of these predictions lies."""
    return f"{canonical(config.predictions)}/{SEEN_FOLDER}"


def _origin(job: Job, meter: Meter) -> origins.Origin:
    spark, config, store, model, _ = job
    if config.source:
        root = canonical(config.source)
        log.info("score: listing %s", root)
        check = partial(dicom_header.check, subject=config.dicom_check, burned_in=config.burned_in)
        listed = list_files(spark, root, store.list_folder)
        return origins.of_files(listed, meter.read, model.spec, config.max_pixels, check, FILE_BYTES)
    images = read(spark, canonical(str(config.images)), IMAGES)
    if not config.prepared:
        return origins.of_images(images, model.spec, config.max_pixels)
    uri = canonical(config.prepared)
    return origins.of_prepared(images, unmarked(read(spark, uri, PREPARED), read_stale(spark, uri)), model.spec)
