"""Parquet tables: read with a checked schema, and append as a run's own folder, so that a dead run harms nobody."""

import re
import secrets
from datetime import UTC, datetime

from py4j.protocol import Py4JJavaError
from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StructType

from pneumospark.errors import ConfigError, TableError
from pneumospark.io.drivers import java_class
from pneumospark.io.files import literal, store_of
from pneumospark.schemas import ADDED_LATER, FEATURES, PREDICTIONS, PREPARED, STALE

STALE_FOLDER = "_stale/rows"
"""Below a table: readers pass over names that begin with "_"."""

SEEN_FOLDER = "_seen/rows"

FILE_BYTES = 128 * 2**20
PARQUET = {
    "compression": "uncompressed",  # images are compressed already; Snappy on top cost about a third of the speed
    "parquet.block.size": str(24 * 2**20),
    # Parquet looks at a row group's size from 100 rows on only: with images of 1 MB that would be 100 MB in memory.
    "parquet.page.size.row.check.min": "4",
    "parquet.enable.dictionary#content": "false",
    "parquet.enable.dictionary#pixels": "false",
}


def new_run_id(name: str | None = None) -> str:
    """A new id: time and chance; of two runs of a table, which lock each other out, the later one's is the greater.

    It begins with a letter, or Spark would read it back as a number. A run's `name` takes the place of chance and not
    that of the time: which of a path's rows counts goes by the order of the ids, and a run that is tried again under
    its name must not commit into the folder of the dead one.
    """
    if name is not None and not re.fullmatch(r"[A-Za-z0-9._-]{1,100}", name):
        raise ConfigError(f"--run-id {name!r}: expected 1 to 100 letters, digits, dots, underlines and dashes")
    return f"r{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{name or secrets.token_hex(3)}"


def read(spark: SparkSession, uri: str, schema: StructType, *, missing_ok: bool = False) -> DataFrame:
    """A table with exactly the schema's columns, `run_id` from the runs' folders among them.

    Raises TableError where the table is absent (unless `missing_ok`: then it is empty) or its columns are others.
    """
    table = _parquet(spark, uri)
    if table is None and missing_ok:
        return spark.createDataFrame([], schema).where("false")  # so Spark knows, and leaves out the joins with it
    if table is None:
        raise TableError(f"{uri}: expected a Parquet table, found none")
    grown = schema in (PREDICTIONS, PREPARED, FEATURES)
    if grown and (lacking := ADDED_LATER.difference(table.columns)):
        check(table, StructType([field for field in schema if field.name not in lacking]), uri)
    else:
        check(table, schema, uri)
    if grown:  # Spark goes by one file's columns, and runs of before and after may lie side by side
        table = spark.read.schema(schema).parquet(literal(uri))
    return table.select(*schema.names)


def append(rows: DataFrame, uri: str, schema: StructType, run_id: str, row_bytes: int = 0) -> int:
    """Write rows as the table's run `run_id` and return how many its files hold.

    Rows of a known size are cut into files of about FILE_BYTES. A table with a `split` that a trainer reads lies in a
    folder per split, so that a feed of one split never reads the others.

    Each run has a folder of its own that no other run commits into. With one folder for all, the commit of a second
    run would also publish what a killed first one left under `_temporary`: rows would be there twice.
    """
    stored = StructType([field for field in schema if field.name != "run_id"])
    check(rows, stored, f"rows for {uri}")
    read(rows.sparkSession, uri, schema, missing_ok=True)  # refuse to add to a table of another schema
    folder = f"{uri.rstrip('/')}/run_id={run_id}"
    options = PARQUET | ({"maxRecordsPerFile": str(max(1, FILE_BYTES // row_bytes))} if row_bytes else {})
    by_split = ["split"] if schema in (PREPARED, FEATURES) else []
    rows.select(*stored.names).write.options(**options).partitionBy(*by_split).mode("error").parquet(folder)
    return rows.sparkSession.read.schema(stored).parquet(literal(folder)).count()


def read_stale(spark: SparkSession, uri: str) -> DataFrame:
    """The rows of a table that are void, STALE."""
    return read(spark, f"{uri.rstrip('/')}/{STALE_FOLDER}", STALE, missing_ok=True)


def mark_stale(rows: DataFrame, uri: str, run_id: str) -> dict[str, int]:
    """Declare rows of a table void, as run `run_id`; how many, by reason."""
    found = {row["reason"]: row["count"] for row in rows.groupBy("reason").count().collect()}
    if found:
        append(rows, f"{uri.rstrip('/')}/{STALE_FOLDER}", STALE, run_id)
    return found


def check(table: DataFrame, schema: StructType, name: str) -> None:
    """Raise TableError, naming column, expected and found type, unless the columns are those of the schema."""
    found = {field.name: field.dataType for field in table.schema}
    for field in schema:
        if field.name not in found:
            raise TableError(
                f"{name}: expected a column {field.name!r} ({field.dataType.simpleString()}), found {table.columns}"
            )
        kind = found.pop(field.name)
        if kind.simpleString() != field.dataType.simpleString():
            raise TableError(
                f"{name}: column {field.name!r}: expected {field.dataType.simpleString()}, found {kind.simpleString()}"
            )
    if found:
        raise TableError(f"{name}: unexpected columns {sorted(found)}: is this another table?")


def _parquet(spark: SparkSession, uri: str) -> DataFrame | None:
    """The Parquet files of a folder; None where there is no folder, or where no run has published a file in it yet."""
    path = java_class(spark, "org.apache.hadoop.fs.Path")(uri)
    try:
        path.getFileSystem(spark._jsc.hadoopConfiguration())
    except Py4JJavaError as error:
        raise TableError(f"{uri}: Spark has no driver for it: {error.java_exception}; see conf/s3a.conf") from error
    if not store_of(spark).exists(uri):  # asking Spark would log a stack trace, and wait long for a wrong address
        return None
    try:
        return spark.read.parquet(literal(uri))
    except AnalysisException as error:
        if error.getCondition() == "UNABLE_TO_INFER_SCHEMA":
            return None
        raise
