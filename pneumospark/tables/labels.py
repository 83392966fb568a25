"""What a corpus says of its files, joined to them: LABELS from paths, from a manifest or from NIH's lists."""

import pandas as pd
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.functions import pandas_udf

from pneumospark.errors import TableError
from pneumospark.labels import DEVELOPMENT, GIVEN_SPLITS, NORMAL, OTHER, PNEUMONIA, from_path
from pneumospark.schemas import LABELS

NIH_COLUMNS = ("Image Index", "Finding Labels", "Patient ID")


def lookup(layout: str, table: DataFrame | None, test: DataFrame | None) -> DataFrame | None:
    """The layout's labels table as `relative` and the LABELS columns, a row per file; None where paths tell the labels.

    Raises TableError where a column is missing, and where a file has two rows, since nobody could say which is true.
    """
    if table is None:
        return None
    rows = nih(table, test) if layout == "nih" else manifest(table)
    if twice := rows.groupBy("relative").count().where("count > 1").limit(1).collect():
        raise TableError(f"labels: expected one row per file, found {twice[0]['count']} for {twice[0]['relative']!r}")
    return rows.persist()


def labelled(files: DataFrame, root: str, rows: DataFrame | None) -> DataFrame:
    """`files` and the LABELS columns: by the lookup's rows, null for a file without one; or by folders and names."""
    if rows is None:
        return _from_paths(files, root)
    return (
        files.withColumn("relative", _key(root, rows))
        .join(rows, "relative", "left")
        .select(*files.columns, *LABELS.names)
    )


def without_file(rows: DataFrame, files: DataFrame, root: str) -> DataFrame:
    """The lookup's rows that name no file of `files`."""
    return rows.join(files.select(_key(root, rows).alias("relative")), "relative", "left_anti")


def manifest(table: DataFrame) -> DataFrame:
    """`relative` and LABELS from the columns path, label, patient_id, split and findings or subtype.

    All but path may be absent. Raises TableError without it, and for a split that is no split's name.
    """
    if "path" not in table.columns:
        raise TableError(f"manifest: expected a column 'path', found {table.columns}")

    def text(*names: str) -> Column:
        return F.coalesce(*(F.col(name) for name in names if name in table.columns), F.lit(None).cast("string"))

    splits = F.create_map(*(F.lit(word) for pair in GIVEN_SPLITS.items() for word in pair))
    rows = table.select(
        F.col("path").alias("relative"),
        text("patient_id").alias("patient_id"),
        F.lower(text("label")).alias("label"),
        _findings(text("findings", "subtype")).alias("findings"),
        splits[F.lower(text("split"))].alias("given_split"),
        text("split").alias("split"),
    )
    if unknown := rows.where("split is not null and given_split is null").limit(1).collect():
        raise TableError(f"manifest: split: expected one of {', '.join(GIVEN_SPLITS)}, got {unknown[0]['split']!r}")
    return rows.drop("split")


def nih(table: DataFrame, test: DataFrame | None) -> DataFrame:
    """`relative` and LABELS of NIH ChestX-ray14 (Wang et al. 2017, arXiv:1705.02315).

    `table` is Data_Entry_2017; `test` has the file names of test_list.txt as `relative`, where it is there.
    """
    for column in NIH_COLUMNS:
        if column not in table.columns:
            raise TableError(f"NIH labels: expected a column {column!r}, found {table.columns}")
    findings = _findings(F.col("Finding Labels"))
    label = F.when(F.array_contains(findings, PNEUMONIA), PNEUMONIA).when(
        F.array_contains(findings, "no finding"), NORMAL
    )
    rows = table.select(
        F.col("Image Index").alias("relative"),
        F.concat(F.lit("nih-"), F.col("Patient ID")).alias("patient_id"),
        label.otherwise(OTHER).alias("label"),
        findings.alias("findings"),
    )
    if test is None:
        return rows.withColumn("given_split", F.lit(None).cast("string"))
    listed = test.select("relative", F.lit("test").alias("given_split"))
    return rows.join(listed, "relative", "left").withColumn(
        "given_split", F.coalesce("given_split", F.lit(DEVELOPMENT))
    )


def with_policy(files: DataFrame, splits: str) -> DataFrame:
    """Apply the setting `splits` to `given_split`: keep it, keep a given test only, or drop it."""
    given = F.col("given_split")
    test_only = F.when(given == "test", "test").when(given.isNotNull(), DEVELOPMENT)
    policies = {"given": given, "given-test": test_only, "ignore": F.lit(None).cast("string")}
    return files.withColumn("given_split", policies[splits])


def _from_paths(files: DataFrame, root: str) -> DataFrame:
    @pandas_udf(LABELS)  # type: ignore[call-overload, untyped-decorator] # its stubs lack the form by type hints
    def parsed(paths: pd.Series) -> pd.DataFrame:
        return pd.DataFrame([vars(from_path(path)) for path in paths], columns=LABELS.names)

    return files.withColumn("labels", parsed(_relative_path(root))).select(*files.columns, "labels.*")


def _key(root: str, rows: DataFrame) -> Column:
    """What the lookup calls a file: its path below the root or, where no row has a folder in it, its name."""
    below = _relative_path(root)
    return F.element_at(F.split(below, "/"), -1) if rows.where(F.col("relative").contains("/")).isEmpty() else below


def _relative_path(root: str) -> Column:
    """`path` below the root, as labels tables name it; the file's name where the root is that file itself."""
    below = F.substring(F.col("path"), len(root) + 2, 1 << 20)
    return F.when(F.col("path") == root, F.element_at(F.split("path", "/"), -1)).otherwise(below)


def _findings(text: Column) -> Column:
    """`A|B` as the array [a, b], lower case; empty for null."""
    return F.when(text.isNull(), F.array().cast("array<string>")).otherwise(F.split(F.lower(text), r"\|"))
