"""What a corpus says of its files, joined to them: LABELS from paths, from a manifest or from NIH's lists."""

from collections.abc import Sequence

import pandas as pd
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.functions import pandas_udf
from pyspark.sql.types import ArrayType, FractionalType, StructType

from pneumospark.errors import TableError
from pneumospark.labels import CLASSES, DEVELOPMENT, GIVEN_SPLITS, NORMAL, OTHER, PNEUMONIA, from_path
from pneumospark.schemas import EXTRA, LABELS

MANIFEST_COLUMNS = ("path", "label", "patient_id", "split", "findings", "subtype")
NIH_COLUMNS = ("Image Index", "Finding Labels", "Patient ID")
RSNA_COLUMNS = ("patientId", "Target")
RSNA_CLASSES = {"Normal": NORMAL, "Lung Opacity": PNEUMONIA, "No Lung Opacity / Not Normal": OTHER}
NO_FINDING = ("normal", "no finding")


def lookup(layout: str, table: DataFrame | None, second: DataFrame | None) -> DataFrame | None:
    """The layout's labels table as `relative` and the LABELS columns, a row per file; None where paths tell the labels.

    `second` is the layout's other list where it has one: NIH's test files, RSNA's classes. Raises TableError where a
    column is missing, and where a file has two rows, since nobody could say which is true.
    """
    if table is None:
        return None
    rows = {"nih": nih, "rsna": rsna}[layout](table, second) if layout in ("nih", "rsna") else manifest(table)
    if twice := rows.groupBy("relative").count().where("count > 1").limit(1).collect():
        raise TableError(f"labels: expected one row per file, found {twice[0]['count']} for {twice[0]['relative']!r}")
    return rows.persist()


def labelled(files: DataFrame, root: str, rows: DataFrame | None, any_folder: bool = True) -> DataFrame:
    """`files` and the LABELS columns: by the lookup's rows, null for a file without one; or by folders and names.

    Unless `any_folder` may be a class, only folders of a known class are labels: others may be named after patients.
    """
    if rows is None:
        files = _from_paths(files, root)
        known = F.when(F.col("label").isin(*CLASSES), F.col("label"))
        return files if any_folder else files.withColumn("label", known)
    return (
        files.withColumn("relative", _key(root, rows))
        .join(rows, "relative", "left")
        .select(*files.columns, *LABELS.names)
    )


def unmatched(rows: DataFrame, files: DataFrame, root: str) -> DataFrame:
    """UNMATCHED rows (without run_id): the lookup's rows that name no file of `files`, and the files that it lacks."""
    named = files.select("path", _key(root, rows).alias("relative"))
    alone = rows.join(named, "relative", "left_anti").select(
        F.concat(F.lit(f"{root}/"), "relative").alias("path"), F.lit("labels").alias("found_in")
    )
    return alone.unionAll(named.join(rows, "relative", "left_anti").select("path", F.lit("source")))


def check_names(rows: DataFrame, files: DataFrame, root: str) -> None:
    """Raise TableError where rows that tell names without folders, as `_key` takes them, name several of `files`.

    Its label and patient would go to each of them, whatever they show.
    """
    named = files.select("path", _key(root, rows).alias("relative")).join(rows, "relative", "left_semi")
    found = named.groupBy("relative").agg(F.min("path").alias("one"), F.max("path").alias("other"))
    if several := found.where("one <> other").limit(1).collect():
        name, one, other = several[0]
        raise TableError(f"manifest: {name}: expected the name of one file, found {one} and {other}: name folders too")


def manifest(table: DataFrame) -> DataFrame:
    """`relative` and LABELS from the columns path, label, patient_id, split and findings or subtype; the rest is extra.

    All but path may be absent. Upper case in a name, and spaces around names and all values but paths, do not count.
    Raises TableError without path, and for a split that is no split's name.
    """
    _expect(table := _as_manifest(table), MANIFEST_COLUMNS[:1], "manifest")

    def text(*names: str) -> Column:
        found = (F.nullif(F.trim(_text(table, name)), F.lit("")) for name in names if name in table.columns)
        return F.coalesce(*found, F.lit(None).cast("string"))

    splits = F.create_map(*(F.lit(word) for pair in GIVEN_SPLITS.items() for word in pair))
    rows = table.select(
        F.col("path").alias("relative"),
        text("patient_id").alias("patient_id"),
        F.lower(text("label")).alias("label"),
        _findings(text("findings", "subtype")).alias("findings"),
        splits[F.lower(text("split"))].alias("given_split"),
        _extra(table, MANIFEST_COLUMNS),
        text("split").alias("split"),
    )
    if unknown := rows.where("split is not null and given_split is null").limit(1).collect():
        raise TableError(f"manifest: split: expected one of {', '.join(GIVEN_SPLITS)}, got {unknown[0]['split']!r}")
    return rows.drop("split")


def _as_manifest(table: DataFrame) -> DataFrame:
    """The known columns under their own names: "Patient_ID", taken for an extra one, would be no patient at all."""
    plain = [name.strip().lower() for name in table.columns]
    if twice := sorted({name for name in plain if name in MANIFEST_COLUMNS and plain.count(name) > 1}):
        raise TableError(f"manifest: expected one column {twice[0]!r}, found {table.columns}")
    known = (name if name in MANIFEST_COLUMNS else given for name, given in zip(plain, table.columns, strict=True))
    return table.toDF(*known)


def nih(table: DataFrame, test: DataFrame | None) -> DataFrame:
    """`relative` and LABELS of NIH ChestX-ray14 (Wang et al. 2017, arXiv:1705.02315).

    `table` is Data_Entry_2017; `test` has the file names of test_list.txt as `relative`, where it is there.
    """
    _expect(table, NIH_COLUMNS, "NIH labels")
    findings = _findings(F.col("Finding Labels"))
    label = F.when(F.array_contains(findings, PNEUMONIA), PNEUMONIA).when(
        F.lower("Finding Labels") == "no finding", NORMAL
    )
    rows = table.select(
        F.col("Image Index").alias("relative"),
        F.concat(F.lit("nih-"), F.col("Patient ID")).alias("patient_id"),
        label.otherwise(OTHER).alias("label"),
        findings.alias("findings"),
        _extra(table, NIH_COLUMNS),
    )
    if test is None:
        return rows.withColumn("given_split", F.lit(None).cast("string"))
    listed = test.select("relative", F.lit("test").alias("given_split"))
    return rows.join(listed, "relative", "left").withColumn(
        "given_split", F.coalesce("given_split", F.lit(DEVELOPMENT))
    )


def rsna(table: DataFrame, classes: DataFrame | None) -> DataFrame:
    """`relative` and LABELS of the RSNA Pneumonia Detection Challenge (Shih et al. 2019, doi:10.1148/ryai.2019180041).

    `table` is stage_2_train_labels, a row for each box that was drawn around a pneumonia, or one row without a box;
    Target 1 is pneumonia. Target 0 is normal, but `classes`, stage_2_detailed_class_info, knows which of these are not:
    with it they are other. A file is named after its `patientId`.
    """
    _expect(table, RSNA_COLUMNS, "RSNA labels")
    target = F.max(F.col("Target").cast("int"))
    boxes = F.sum(F.col("Target").cast("int")).cast("string")
    rows = table.groupBy("patientId").agg(target.alias("target"), F.create_map(F.lit("boxes"), boxes).alias("extra"))
    label = F.when(F.col("target") == 1, PNEUMONIA).when(F.col("target") == 0, NORMAL)
    if classes is not None:
        _expect(classes, ("patientId", "class"), "RSNA classes")
        rows = rows.join(classes.select("patientId", "class").distinct(), "patientId", "left")
        by_class = F.create_map(*(F.lit(word) for pair in RSNA_CLASSES.items() for word in pair))
        label = F.coalesce(by_class[F.col("class")], label)
    return rows.select(
        F.concat("patientId", F.lit(".dcm")).alias("relative"),
        F.col("patientId").alias("patient_id"),
        label.alias("label"),
        F.array().cast("array<string>").alias("findings"),
        F.lit(None).cast("string").alias("given_split"),
        "extra",
    )


def with_policy(files: DataFrame, splits: str) -> DataFrame:
    """Apply the setting `splits` to `given_split`: keep it, keep a given test only, or drop it."""
    given = F.col("given_split")
    test_only = F.when(given == "test", "test").when(given.isNotNull(), DEVELOPMENT)
    policies = {"given": given, "given-test": test_only, "ignore": F.lit(None).cast("string")}
    return files.withColumn("given_split", policies[splits])


def _from_paths(files: DataFrame, root: str) -> DataFrame:
    by_path = StructType([field for field in LABELS if field.name != "extra"])

    @pandas_udf(by_path)  # type: ignore[call-overload, untyped-decorator] # its stubs lack the form by type hints
    def parsed(paths: pd.Series) -> pd.DataFrame:
        return pd.DataFrame([vars(from_path(path)) for path in paths], columns=by_path.names)

    extra = F.lit(None).cast(EXTRA).alias("extra")
    return files.withColumn("labels", parsed(_relative_path(root))).select(*files.columns, "labels.*", extra)


def _key(root: str, rows: DataFrame) -> Column:
    """What the lookup calls a file: its path below the root or, where no row has a folder in it, its name."""
    below = _relative_path(root)
    return F.element_at(F.split(below, "/"), -1) if rows.where(F.col("relative").contains("/")).isEmpty() else below


def _relative_path(root: str) -> Column:
    """`path` below the root, as labels tables name it; the file's name where the root is that file itself."""
    below = F.substring(F.col("path"), len(root) + 2, 1 << 20)
    return F.when(F.col("path") == root, F.element_at(F.split("path", "/"), -1)).otherwise(below)


def _findings(text: Column) -> Column:
    """`A|B` as the array [a, b], lower case; empty for null and for words that say that nothing was found."""
    empty = F.array().cast("array<string>")
    found = F.array_except(F.split(F.lower(text), r"\s*\|\s*"), F.array(*map(F.lit, NO_FINDING)))
    return F.when(text.isNull(), empty).otherwise(found)


def _extra(table: DataFrame, taken: Sequence[str]) -> Column:
    """The other columns as text by their names, without nulls."""
    others = [name for name in table.columns if name not in taken]
    if not others:
        return F.lit(None).cast(EXTRA).alias("extra")
    quoted = (F.col("`" + name.replace("`", "``") + "`").cast("string") for name in others)
    pairs = F.create_map(*(part for pair in zip(map(F.lit, others), quoted, strict=True) for part in pair))
    return F.map_filter(pairs, lambda _, value: value.isNotNull()).alias("extra")


def _text(table: DataFrame, name: str) -> Column:
    """A column as text, a list of it joined by "|", as CSV has it.

    pandas keeps whole numbers as 13.0 where any of them is missing: that is 13, on this night as on the next.
    """
    kind, column = table.schema[name].dataType, F.col(name)
    if isinstance(kind, ArrayType):
        return F.array_join(name, "|")
    if isinstance(kind, FractionalType):
        whole = F.when(column == F.floor(column), column.cast("bigint").cast("string"))
        return F.coalesce(whole, column.cast("string"))
    return column.cast("string")


def _expect(table: DataFrame, columns: Sequence[str], name: str) -> None:
    for column in columns:
        if column not in table.columns:
            raise TableError(f"{name}: expected a column {column!r}, found {table.columns}")
