"""What is in `images`: a table of counts, leaks, near duplicates across splits, and the audit of shortcuts.

spark-submit jobs/quality.py --images /tables/images --quarantine /tables/quarantine --report /reports/quality
"""

import sys
from typing import Any

from pyspark.sql import DataFrame

from pneumospark.config import QualityConfig
from pneumospark.io.files import canonical, store_of
from pneumospark.io.quality_report import readable, write_quality
from pneumospark.io.run import Counts, log, run, versions
from pneumospark.io.session import session
from pneumospark.io.tables import read
from pneumospark.learn import shortcuts
from pneumospark.pixels.facts import PIXEL_FACTS
from pneumospark.schemas import IMAGES, QUARANTINE
from pneumospark.settings import parse
from pneumospark.spec import ImageSpec
from pneumospark.tables import quality
from pneumospark.tables.history import current, refused_now
from pneumospark.tables.looks import distinct, looks, near_duplicates, only_sample, sample, trivial
from pneumospark.tables.sources import of_stage

KEYS = ("patient_id", "image_id")
LISTED = 1000
"""Leaks and near duplicates that the report names; it counts all."""


def main(argv: list[str] | None = None) -> Counts:
    """Run the job; returns its counts. Raises LeakError, after the report is written, where there is a leak."""
    config, spec = parse(QualityConfig, argv)
    spark = session("quality")
    uri, report = canonical(config.images), canonical(config.report)
    images = read(spark, uri, IMAGES)
    rows = current(images.drop("content"))
    refused = canonical(config.quarantine) if config.quarantine else None
    refusals = of_stage(read(spark, refused, QUARANTINE, missing_ok=True), "ingest") if refused else None
    table = quality.composition(rows, refused_now(refusals, rows) if refusals else None).toPandas()
    print(readable(table), flush=True)
    leaks = {key: _listed(quality.leaks(rows, key).orderBy(key)) for key in KEYS}
    near, audit = _looked_at(config, images, spec)
    facts = {"images": uri, "spec": spec.fingerprint(), "seed": str(config.seed)}
    found = {"leaks": leaks, "near_duplicates": near, "shortcuts": audit}
    facts |= versions("pyspark", "scikit-learn", "imagehash")
    write_quality(report, table, found, facts, config.warn, store_of(spark).open_for_write)
    quality.check_no_leak(rows, KEYS, uri, f"Ingest into a new table with other --splits. See {report}/index.html")
    return {
        "files": int(table["files"].sum()),
        "images": int(table["images"].sum()),
        "near_duplicates": near and near["count"],
        "shortcuts": audit and {name: row["auc"] for name, row in audit["together"].items()},
        "warnings": audit and shortcuts.at_least(audit, config.warn),
        "report": f"{report}/index.html",
    }


def _looked_at(config: QualityConfig, images: DataFrame, spec: ImageSpec) -> tuple[Any, Any]:
    """Near duplicates and the shortcut audit; None for what is not asked for, or has too few patients."""
    wanted = distinct(images)
    seen = looks(wanted if config.near >= 0 else only_sample(wanted, config.sample), spec).persist()
    log.info("quality: %d distinct images seen as %s", seen.count(), spec.shape)
    near = {"distance": config.near, **_listed(near_duplicates(seen, config.near))} if config.near >= 0 else None
    facts, truth, patients = trivial(sample(seen, config.sample).toPandas())
    if shortcuts.rarer_patients(truth, patients) < 2:
        log.warning("quality: no shortcut audit: fewer than two patients of normal or of pneumonia")
        return near, None
    audit = shortcuts.audit(facts, truth, patients, PIXEL_FACTS, config.seed)
    if strong := shortcuts.at_least(audit, config.warn):
        log.warning("quality: these tell pneumonia from normal with an AUC of %s or more: %s", config.warn, strong)
    return near, audit


def _listed(rows: DataFrame) -> dict[str, Any]:
    """How many rows there are, and the first LISTED of them."""
    rows = rows.persist()
    return {"count": rows.count(), "first": [row.asDict() for row in rows.limit(LISTED).collect()]}


if __name__ == "__main__":
    sys.exit(run("quality", main))
