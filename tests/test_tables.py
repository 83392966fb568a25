"""Tables: schemas refused by name, what plain pyarrow sees of them, and runs that died in the middle."""

import shutil
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet
import pytest
from conftest import Tables, Way, content, rows, runs
from hypothesis import given
from hypothesis import strategies as st
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StringType, StructField, StructType

from pneumospark.errors import ConfigError, TableError
from pneumospark.io.tables import append, check, new_run_id, read
from pneumospark.schemas import ADDED_LATER, FEATURES, IMAGES, PIXEL_STATISTICS, PREDICTIONS, PREPARED, QUARANTINE

pytestmark = pytest.mark.spark

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


def refusals(spark: SparkSession, *names: str) -> DataFrame:
    """Rows for `quarantine`, an unfinished one of nulls among them."""
    good = [(name, 1, NOON, "ingest", "empty", "zero bytes") for name in names]
    return spark.createDataFrame([*good, (None,) * 6], StructType(list(QUARANTINE)[:-1]))


def paths(table: DataFrame) -> list[str]:
    return sorted(row["path"] or "" for row in table.collect())


def data_files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("part-*.parquet"))


def test_rows_come_back_with_the_run_that_wrote_them(spark: SparkSession, tmp_path: Path) -> None:
    assert append(refusals(spark, "a", "b"), str(tmp_path / "t [1] {a}"), QUARANTINE, "r1") == 3
    assert append(refusals(spark, "c"), str(tmp_path / "t [1] {a}"), QUARANTINE, "r2") == 2
    table = read(spark, str(tmp_path / "t [1] {a}"), QUARANTINE)
    assert table.schema.names == QUARANTINE.names
    assert sorted((row["path"] or "", row["run_id"]) for row in table.collect()) == [
        ("", "r1"),
        ("", "r2"),
        ("a", "r1"),
        ("b", "r1"),
        ("c", "r2"),
    ]
    assert table.where("path = 'a'").first()["modified_at"] == NOON.astimezone().replace(tzinfo=None)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            lambda rows: rows.withColumnRenamed("reason", "reasons"),
            r"rows for .*: expected a column 'reason' \(string\)",
        ),
        (lambda rows: rows.drop("length"), r"column 'length' \(bigint\), found \['path', 'modified_at', 'stage'"),
        (lambda rows: rows.withColumn("name", F.lit("Doe")), r"unexpected columns \['name'\]: is this another table\?"),
        (lambda rows: rows.withColumn("length", F.lit("1")), "column 'length': expected bigint, found string"),
    ],
    ids=["renamed", "missing", "extra", "type"],
)
def test_rows_of_another_schema_are_refused_before_a_byte_is_written(spark, tmp_path, changed, message) -> None:
    with pytest.raises(TableError, match=message):
        append(changed(refusals(spark, "a")), str(tmp_path / "t"), QUARANTINE, "r1")
    assert not (tmp_path / "t").exists()


def test_a_table_of_another_schema_is_neither_read_nor_added_to(spark: SparkSession, tmp_path: Path) -> None:
    uri = str(tmp_path / "t")
    append(refusals(spark, "a"), uri, QUARANTINE, "r1")
    with pytest.raises(TableError, match=r"t: expected a column 'image_id' \(string\), found \['path', 'length'"):
        read(spark, uri, PREDICTIONS)
    other = StructType([StructField(name, StringType()) for name in ("path", "run_id")])
    with pytest.raises(TableError, match=r"t: unexpected columns \['detail', .*\]: is this another table\?"):
        append(refusals(spark, "b").select("path"), uri, other, "r2")
    assert runs(tmp_path / "t") == ["r1"]


def test_an_absent_table_is_an_error_or_empty_as_asked(spark: SparkSession, tmp_path: Path) -> None:
    with pytest.raises(TableError, match="nowhere: expected a Parquet table, found none"):
        read(spark, f"file://{tmp_path}/nowhere", QUARANTINE)
    empty = read(spark, f"file://{tmp_path}/nowhere", QUARANTINE, missing_ok=True)
    assert (empty.count(), empty.schema) == (0, QUARANTINE)


def test_a_run_is_never_written_twice(spark: SparkSession, tmp_path: Path) -> None:
    append(refusals(spark, "a"), str(tmp_path / "t"), QUARANTINE, "r1")
    with pytest.raises(Exception, match="PATH_ALREADY_EXISTS"):
        append(refusals(spark, "b"), str(tmp_path / "t"), QUARANTINE, "r1")


def test_a_run_id_is_text_for_every_reader_of_folders(spark: SparkSession) -> None:
    assert new_run_id()[0] == "r" and new_run_id() != new_run_id()


@given(st.from_regex(r"[A-Za-z0-9._-]{1,100}", fullmatch=True))
def test_a_named_run_is_ordered_by_its_time_and_never_twice_the_same(name: str) -> None:
    before, first, second, after = new_run_id(), new_run_id(name), new_run_id(name), new_run_id()
    assert before[:22] <= first[:22] <= second[:22] <= after[:22] and first[0] == "r"
    assert first.endswith(f"-{name}") and (first < second or first[:22] == second[:22])


@pytest.mark.parametrize("name", ["", "a/b", "a=b", "ü", " ", "a" * 101, "a\n"])
def test_a_name_that_is_no_folder_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"--run-id .*: expected 1 to 100 letters, digits, dots"):
        new_run_id(name)


def test_predictions_of_version_0_1_are_read_beside_those_of_now(spark: SparkSession, tmp_path: Path) -> None:
    """They lack three columns, which are null then, whichever of the two Spark looks at first."""
    now = StructType([field for field in PREDICTIONS if field.name != "run_id"])
    before = StructType([field for field in now if field.name not in ADDED_LATER])
    for n, run_id, schema in ((1, "r1", before), (2, "r2", now), (3, "r3", before)):
        row = {field.name: None for field in schema} | {"path": f"/{n}", "probability": n / 10}
        if schema == now:
            row |= {"length": 7, "statistics": {"mean": 1.5}}
        spark.createDataFrame([row], schema).write.parquet(f"{tmp_path}/t/run_id={run_id}")
    table = read(spark, f"{tmp_path}/t", PREDICTIONS)
    assert table.schema.simpleString() == PREDICTIONS.simpleString()
    found = {row["path"]: (row["length"], row["probability"], row["run_id"]) for row in table.collect()}
    assert found == {"/1": (None, 0.1, "r1"), "/2": (7, 0.2, "r2"), "/3": (None, 0.3, "r3")}
    shutil.rmtree(tmp_path / "t/run_id=r2")
    assert read(spark, f"{tmp_path}/t", PREDICTIONS).where("length is null").count() == 2


def bury(run: Path) -> list[str]:
    """Make of a whole run one that was killed between its last task and its commit; the names of its files."""
    task = run / "_temporary" / "0" / "task_202611241200000000000000000000000_0001_m_000000"
    task.mkdir(parents=True)
    (run / "_SUCCESS").unlink()
    for file in data_files(run):
        file.rename(task / file.name)
    for checksum in run.glob(".*.crc"):
        checksum.unlink()
    return [file.name for file in data_files(run)]


def test_what_a_dead_run_left_is_never_published_by_another(spark: SparkSession, tmp_path: Path) -> None:
    uri, dead = str(tmp_path / "t"), tmp_path / "t" / "run_id=dead"
    append(refusals(spark, "a"), uri, QUARANTINE, "dead")
    left = bury(dead)
    assert left and read(spark, uri, QUARANTINE, missing_ok=True).count() == 0
    append(refusals(spark, "a"), uri, QUARANTINE, "r2")
    append(refusals(spark, "b"), uri, QUARANTINE, "r3")
    assert paths(read(spark, uri, QUARANTINE)) == ["", "", "a", "b"]
    assert [file.name for file in data_files(dead / "_temporary")] == left


def test_in_one_folder_for_all_runs_it_would_be(spark: SparkSession, tmp_path: Path) -> None:
    """The trap itself, or the test above would prove nothing: Spark does publish a `_temporary` as `bury` makes it."""
    append(refusals(spark, "a"), str(tmp_path), QUARANTINE, "one")
    bury(tmp_path / "run_id=one")
    folder = str(tmp_path / "run_id=one")
    refusals(spark, "b").write.mode("append").parquet(folder)
    assert paths(spark.read.parquet(folder)) == ["", "", "a", "b"]


def test_killed_in_the_commit_and_run_again_gives_the_same_table(tables: Tables, ingested: Way) -> None:
    """Half of the files published, the rest not, no _SUCCESS, and no quarantine yet: what is there counts."""
    tables.folder.mkdir(parents=True)
    for name in ("images", "prepared"):
        shutil.copytree(ingested.tables.folder / name, tables.folder / name)
    whole = {name: content(ingested.tables.folder / name) for name in ("images", "prepared")}
    refused = {row["path"]: row["reason"] for row in rows(ingested.tables.quarantine)}
    for name in ("images", "prepared"):
        (run,) = (tables.folder / name).glob("run_id=*")
        (run / "_SUCCESS").unlink()
        published = data_files(run)
        for file in published[: -(-len(published) // 2)]:
            file.unlink()
    left = {name: len(rows(tables.folder / name)) for name in ("images", "prepared")}
    summary = tables.ingest(ingested.corpus, "--shares", "0.5,0.25,0.25", "--salt", "34")
    assert summary["images"] == whole["images"].total() - left["images"] > 0
    assert content(tables.images) == whole["images"]
    assert {row["path"]: row["reason"] for row in rows(tables.quarantine)} == refused and len(refused) == 2
    assert tables.extract()["images"] == whole["prepared"].total() - left["prepared"] > 0
    assert content(tables.prepared) == whole["prepared"]


PARQUET_TYPES = {
    "string": "string",
    "bigint": "int64",
    "int": "int32",
    "binary": "binary",
    "double": "double",
    "timestamp": "timestamp[us, tz=UTC]",
    "array<string>": "list<element: string>",
    "array<float>": "list<element: float>",
    "map<string,string>": "map<string, string ('extra')>",  # pyarrow 14 shows the column's name here
    "map<string,double>": "map<string, double ('probabilities')>",
    PIXEL_STATISTICS.simpleString(): f"struct<{', '.join(f'{name}: float' for name in PIXEL_STATISTICS.names)}>",
}


def stored_types(table: Path) -> dict[str, str]:
    """Column -> type as plain pyarrow sees them in a table's files, the folders' columns left out."""
    (types,) = {
        tuple((field.name, str(field.type)) for field in pyarrow.parquet.ParquetFile(file).schema_arrow)
        for file in data_files(table)
    }
    return dict(types)


@pytest.mark.parametrize(
    ("table", "schema", "folders"),
    [
        ("images", IMAGES, {"run_id"}),
        ("quarantine", QUARANTINE, {"run_id"}),
        ("prepared", PREPARED, {"run_id", "split"}),
    ],
)
def test_plain_pyarrow_sees_the_schema(ingested: Way, table, schema, folders) -> None:
    expected = {
        field.name: PARQUET_TYPES[field.dataType.simpleString()] for field in schema if field.name not in folders
    }
    assert stored_types(ingested.tables.folder / table) == expected


@pytest.mark.tensorflow
@pytest.mark.parametrize(
    ("table", "schema", "folders"),
    [("features", FEATURES, {"run_id", "split"}), ("predictions", PREDICTIONS, {"run_id"})],
)
def test_plain_pyarrow_sees_the_schema_of_what_models_write(way: Way, table, schema, folders) -> None:
    test_plain_pyarrow_sees_the_schema(way, table, schema, folders)


@pytest.mark.parametrize(("table", "column"), [("images", "content"), ("prepared", "pixels")])
def test_image_bytes_are_stored_once_and_plain(ingested: Way, table: str, column: str) -> None:
    for file in data_files(ingested.tables.folder / table):
        group = pyarrow.parquet.ParquetFile(file).metadata.row_group(0)
        (chunk,) = [group.column(n) for n in range(group.num_columns) if group.column(n).path_in_schema == column]
        assert (chunk.compression, chunk.has_dictionary_page) == ("UNCOMPRESSED", False)


def test_row_groups_are_small_enough_for_a_reader(spark: SparkSession, tmp_path: Path) -> None:
    """60 MB of pixels: no row group much above 24 MB, so that a trainer never holds a whole file."""
    rows = spark.range(60, numPartitions=1).select(
        F.col("id").cast("string").alias("image_id"),
        *(F.lit(name).alias(name) for name in ("patient_id", "label")),
        F.lit("train").alias("split"),
        F.lit("").alias("findings"),
        F.repeat(F.hex(F.col("id") % 16), 2**20).cast("binary").alias("pixels"),
        F.lit("s").alias("spec"),
    )
    append(rows, str(tmp_path), PREPARED, "r1", row_bytes=2**20)
    (file,) = data_files(tmp_path)
    metadata = pyarrow.parquet.ParquetFile(file).metadata
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    assert sum(group.num_rows for group in groups) == 60
    assert len(groups) >= 2 and max(group.total_byte_size for group in groups) < 33 * 2**20


def test_rows_of_a_known_size_are_cut_into_files(spark: SparkSession, tmp_path: Path) -> None:
    rows = refusals(spark, *"abcdefgh").coalesce(1)
    append(rows, str(tmp_path), QUARANTINE, "r1", row_bytes=64 * 2**20)  # two of such rows make 128 MB
    assert len(data_files(tmp_path)) == 5 and read(spark, str(tmp_path), QUARANTINE).count() == 9


def test_check_names_the_first_missing_column_of_a_real_table(ingested: Way, spark: SparkSession) -> None:
    images = read(spark, str(ingested.tables.images), IMAGES)
    check(images, IMAGES, "images")
    with pytest.raises(TableError, match=r"images: expected a column 'content' \(binary\)"):
        check(images.drop("content"), IMAGES, "images")
