"""The `images` table, and the quarantine for what is no image: one look at each file decides."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import StructType

from pneumospark.errors import ConfigError, DecodeError
from pneumospark.labels import DEVELOPMENT
from pneumospark.pixels import dicom_header
from pneumospark.pixels.decode import decode, without_identity
from pneumospark.schemas import IMAGES, QUARANTINE
from pneumospark.split import SPLITS, TEST, Ties, split_of
from pneumospark.tables.ahead import Read, Row, content_of, read_ahead
from pneumospark.tables.paths import Show, hidden
from pneumospark.tables.sources import largest

BATCH_BYTES = 32 * 2**20
"""Rows that hold images travel to the JVM in batches of about this size, whatever the size of each."""

SMALLEST = (1, 1)
"""A JPEG is decoded to an eighth of its size: all of its bytes are read, which tells a broken one, in half the time."""


@dataclass(frozen=True)
class Rules:
    """What ingest decides by: limits, the shares of the splits, what a DICOM header may say, and what is hidden."""

    source: str
    ingest_id: str
    max_pixels: int
    shares: tuple[float, float, float]
    salt: str = ""
    patient_key: bytes | None = field(default=None, repr=False)
    dicom_check: str = "modality"
    burned_in: str = "quarantine"
    show: Show = field(default=str, repr=False)  # paths
    ties: Ties = field(default_factory=Ties, repr=False)


def images(files: DataFrame, read: Read, rules: Rules) -> DataFrame:
    """IMAGES rows (without run_id) of those files that decode; `files` has LISTED, LABELS and `replaces`."""
    schema = without_run_id(IMAGES)
    return files.mapInArrow(lambda batches: packed(_rows(batches, read, rules), schema), schema)


def refused(files: DataFrame, look: Callable[[Row], object], stage: str, show: Show = str) -> DataFrame:
    """QUARANTINE rows (without run_id) of those files at which `look` raises DecodeError, paths as `show` has them.

    Ingest and scoring write their good rows first, and then look again at the files that have none. Writing both from
    one look would need Spark to keep every image's bytes until both tables are written.
    """
    schema = without_run_id(QUARANTINE)

    def rows(batches: Iterable[pa.RecordBatch]) -> Iterator[Row]:
        for file in (row for batch in batches for row in batch.to_pylist()):
            try:
                look(file)
            except DecodeError as error:
                told = show is str or error.reason != "unreadable"  # what a store says may hold the path
                detail = error.detail if told else "what the store said may hold the path, which is hidden"
                yield {**file, "path": show(file["path"]), "stage": stage, "reason": error.reason, "detail": detail}

    return files.mapInArrow(lambda batches: packed(rows(batches), schema), schema)


def image_row(file: Row, read: Read, rules: Rules) -> Row:
    """One row of IMAGES; raises DecodeError for a file that is no usable image."""
    check_length(file, rules.max_pixels)
    content = content_of(file, read)
    decoded = decode(content, rules.max_pixels, SMALLEST)
    if decoded.header:
        dicom_header.check(decoded.header, rules.dicom_check, rules.burned_in)
    image_id = hashlib.sha256(content).hexdigest()
    patient = patient_for(decoded.header, file["patient_id"], rules)
    split = split_for(patient or image_id, file["given_split"], rules)
    held = rules.ties.held.get(image_id, split)
    if split == TEST and file["given_split"] == DEVELOPMENT:
        raise DecodeError("leak", "it is given as no test image, and its patient, or one with equal bytes, is in test")
    if split != held and file["given_split"] not in SPLITS:  # a given one is for the leak check, which fails the job
        raise DecodeError("leak", f"equal bytes are in {held}, the patient of this file is in {split}")
    return {
        "image_id": image_id,
        "path": rules.show(file["path"]),
        "source": rules.source,
        "format": decoded.format,
        "width": decoded.width,
        "height": decoded.height,
        "bits": decoded.bits,
        "photometric": decoded.photometric,
        "patient_id": patient,
        "label": file["label"],
        "findings": file["findings"],
        "split": split,
        "extra": file["extra"],
        "content": without_identity(content),
        "length": file["length"],  # as listed: a file that grows while it is read is seen as changed next time
        "modified_at": file["modified_at"],
        "ingest_id": rules.ingest_id,
        "replaces": file["replaces"],
    }


def check_length(file: Row, max_pixels: int) -> None:
    """Raise DecodeError for a file that is larger than any image of `max_pixels`, by its listed length: unread."""
    if file["length"] > (most := largest(max_pixels)):
        raise DecodeError("too_large", f"expected at most {most} bytes for {max_pixels} pixels, got {file['length']}")


def split_for(group: str, given: str | None, rules: Rules) -> str:
    """The given split, else the one that the group is tied to, else by its hash any, or for "development" not test."""
    if given in SPLITS:
        return str(given)
    if group in rules.ties.splits:
        return rules.ties.splits[group]
    train, validation, _ = rules.shares
    if given == DEVELOPMENT:
        if not train + validation:
            raise ConfigError("--shares: expected some of train or validation for files given as no test")
        return split_of(group, (train / (train + validation), validation / (train + validation), 0.0), rules.salt)
    return split_of(group, rules.shares, rules.salt)


def packed(rows: Iterator[Row], schema: StructType) -> Iterator[pa.RecordBatch]:
    """Rows as Arrow batches of about BATCH_BYTES at most: a task's memory does not depend on its share of the files."""
    arrow, pending, size = to_arrow_schema(schema), [], 0
    for row in rows:
        pending.append({name: row[name] for name in schema.names})
        size += sum(len(value) for value in row.values() if isinstance(value, bytes)) + 512
        if size >= BATCH_BYTES:
            yield pa.RecordBatch.from_pylist(pending, schema=arrow)
            pending, size = [], 0
    if pending:
        yield pa.RecordBatch.from_pylist(pending, schema=arrow)


def without_run_id(schema: StructType) -> StructType:
    """The columns that a run writes: the folder tells the run."""
    return StructType([field for field in schema if field.name != "run_id"])


def patient_for(header: dicom_header.DicomHeader | None, told: str | None, rules: Rules) -> str | None:
    """The patient of the header or else of the layout; hidden wherever there is a key, which DICOM files need.

    All files alike: the DICOM file and the PNG of one patient must be one group, and so in one split.
    """
    patient = (header and header.patient_id) or told
    return hidden(patient, rules.patient_key) if patient and (header or rules.patient_key) else patient


def _rows(batches: Iterable[pa.RecordBatch], read: Read, rules: Rules) -> Iterator[Row]:
    for file in read_ahead((row for batch in batches for row in batch.to_pylist()), read):
        try:
            yield image_row(file, read, rules)
        except DecodeError:  # `refused` looks at it again and writes the reason
            continue
