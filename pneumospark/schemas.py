"""The tables' schemas: plain Parquet, one StructType each. `run_id` comes last everywhere: it is the run's folder."""

from pyspark.sql.types import (
    ArrayType,
    BinaryType,
    DoubleType,
    FloatType,
    IntegerType,
    LongType,
    MapType,
    StringType,
    StructField,
    StructType,
    TimestampType,
)


def _struct(*fields: tuple[str, object]) -> StructType:
    return StructType([StructField(name, kind) for name, kind in fields])  # type: ignore[arg-type]


STRING, LONG, INT, BYTES, TIME = StringType(), LongType(), IntegerType(), BinaryType(), TimestampType()

SIDES = ("left", "top", "right", "bottom")
LISTED = _struct(("path", STRING), ("length", LONG), ("modified_at", TIME))
"""What a listing says of a file, before anyone reads it."""

SEEN = _struct(*((field.name, field.dataType) for field in LISTED), ("image_id", STRING), ("run_id", STRING))
"""A file that was copied anew or touched and holds what it held, so that it is read for this once."""

LABELS = _struct(
    ("patient_id", STRING),
    ("label", STRING),
    ("findings", ArrayType(STRING)),
    ("given_split", STRING),
    ("extra", EXTRA := MapType(STRING, STRING)),  # the labels table's other columns, by name
)
"""What the layout says of a file: null where it says nothing."""

UNMATCHED = _struct(("path", STRING), ("found_in", STRING), ("run_id", STRING))
"""What is in the labels table alone, or in the source alone; `found_in` is one of "labels", "source"."""

IMAGES = _struct(
    ("image_id", STRING),  # sha256 of the file, hex
    ("path", STRING),
    ("source", STRING),
    ("format", STRING),
    ("width", INT),  # pixels, as shown (after EXIF rotation)
    ("height", INT),
    ("bits", INT),  # stored bits a sample
    ("photometric", STRING),
    ("patient_id", STRING),
    ("label", STRING),
    ("findings", ArrayType(STRING)),
    ("split", STRING),
    ("extra", EXTRA),  # the labels table's other columns: age, view and the like, to judge subgroups by
    ("content", BYTES),  # the file; of a DICOM file its picture alone, without names
    ("length", LONG),  # bytes
    ("modified_at", TIME),
    ("ingest_id", STRING),
    ("replaces", STRING),  # image_id of the row of the same path that this one makes void; null for a new path
    ("run_id", STRING),
)

QUARANTINE = _struct(
    ("path", STRING),
    ("length", LONG),
    ("modified_at", TIME),
    ("stage", STRING),  # the job that refused it
    ("reason", STRING),  # one of DecodeError.REASONS
    ("detail", STRING),
    ("run_id", STRING),
)

PREPARED = _struct(
    ("image_id", STRING),
    ("patient_id", STRING),
    ("label", STRING),
    ("split", STRING),
    ("findings", STRING),  # joined by "|", in order; empty where none is named
    ("pixels", BYTES),  # uint8, row-major, height x width x channels of the spec
    ("spec", STRING),  # ImageSpec.fingerprint()
    ("run_id", STRING),
)

STALE = _struct(
    ("image_id", STRING),
    ("row_run_id", STRING),  # run_id of the row of `prepared` or `features` that no longer says what `images` says
    ("reason", STRING),  # replaced | conflict | relabelled
    ("run_id", STRING),
)

FEATURES = _struct(
    ("image_id", STRING),
    ("patient_id", STRING),
    ("label", STRING),
    ("split", STRING),
    ("findings", STRING),
    ("features", ArrayType(FloatType())),
    ("backbone", STRING),
    ("run_id", STRING),
)

PIXEL_STATISTICS = _struct(
    *(
        (name, FloatType())
        for name in (
            "mean",
            "std",
            *(f"percentile_{percentile}" for percentile in (5, 25, 50, 75, 95)),
            "black",
            "white",
            "border",
            "gradient_x",
            "gradient_y",
            "gradient_ratio",
            "sharpness",
        )
    )
)
"""What `pixels.facts.pixel_facts` says of the pixels that a network saw: by these, drift is told."""

PREDICTIONS = _struct(
    ("image_id", STRING),
    ("path", STRING),
    ("probability", DoubleType()),  # of pneumonia, calibrated, 0 to 1
    ("prediction", STRING),  # the label's name
    ("threshold", DoubleType()),
    ("model_id", STRING),
    ("spec", STRING),
    ("scored_at", TIME),
    ("length", LONG),  # bytes, and time, as listed: null in rows of before 0.2
    ("modified_at", TIME),
    ("statistics", PIXEL_STATISTICS),
    ("probabilities", MapType(STRING, DoubleType())),  # of each output of a model of several, calibrated; else null
    ("run_id", STRING),
)
EXPLAINED = _struct(
    ("png", BYTES),  # RGB, of the spec's size: the image as the network saw it, and where it looked, in colour
    ("box", _struct(*((side, INT) for side in SIDES))),  # pixels of the original, as shown; right and bottom outside
    ("relative_box", _struct(*((side, FloatType()) for side in SIDES))),  # the same as shares of its width and height
)
"""Where the network looked: the box of the hottest region is null where nothing spoke for pneumonia."""

EXPLANATIONS = _struct(
    ("image_id", STRING),
    ("path", STRING),
    ("model_id", STRING),
    *((field.name, field.dataType) for field in EXPLAINED),
    ("run_id", STRING),
)
ADDED_LATER = {"length", "modified_at", "statistics", "probabilities", "findings"}
"""Columns of PREDICTIONS, PREPARED and FEATURES that tables of version 0.1 lack: there they read as null."""
