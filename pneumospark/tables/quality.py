"""Checks over tables: every file accounted for, no patient and no image in two splits."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from pneumospark.errors import LeakError, LostRowsError


def unaccounted(files: DataFrame, *tables: DataFrame) -> DataFrame:
    """Files whose path has a row in none of the tables."""
    for table in tables:
        files = files.join(table.select("path"), "path", "left_anti")
    return files


def check_all_accounted(lost: DataFrame, stage: str) -> None:
    """Raise LostRowsError, naming one, where files have neither a row nor a reason."""
    if rows := lost.limit(1).collect():
        raise LostRowsError(
            f"{stage}: {lost.count()} files have neither a row nor a quarantine row, {rows[0]['path']!r} among them; "
            "the store may have failed in between: run the job again"
        )


def check_no_leak(rows: DataFrame, keys: tuple[str, ...], table: str, advice: str) -> None:
    """Raise LeakError where one patient, or one image, has rows in more than one split."""
    for key in keys:
        splits = (
            rows.where(F.col(key).isNotNull()).groupBy(key).agg(F.sort_array(F.collect_set("split")).alias("splits"))
        )
        leaks = splits.where(F.size("splits") > 1)
        if found := leaks.orderBy(key).limit(1).collect():
            raise LeakError(
                f"{table}: {leaks.count()} values of {key} are in more than one split, {found[0][key]!r} in "
                f"{' and '.join(found[0]['splits'])}. {advice}"
            )


def counts(rows: DataFrame, *columns: str) -> dict[str, int]:
    """Rows by the values of some columns, joined by "/": for a job's summary."""
    grouped = rows.groupBy(*columns).count().orderBy(*columns).collect()
    return {"/".join(str(row[column]) for column in columns): row["count"] for row in grouped}
