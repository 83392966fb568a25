"""Files of equal bytes under several patients, found before their splits are drawn, and before most files are read."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import replace

import pandas as pd
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from pneumospark.errors import DecodeError
from pneumospark.labels import DEVELOPMENT
from pneumospark.pixels.dicom import header_of
from pneumospark.split import SPLITS, Ties, Twin, tie
from pneumospark.tables.ahead import Read
from pneumospark.tables.images import Rules, patient_for, split_for
from pneumospark.tables.paths import DICOM_NAMES
from pneumospark.tables.sources import largest

COLUMNS = ("image_id", "length", "split", "format", "patient_id")


def ties(files: DataFrame, done: DataFrame, read: Read, rules: Rules, dicom: bool) -> Ties:
    """What new `files` (LISTED, LABELS) share with each other and with the rows that count, `done` (with COLUMNS).

    `dicom`: headers tell the patients.

    A split is written with its row, and a row is its own commit, so what is tied has to be known before. Only files of
    one length can be equal: those that share theirs with a file of another patient are read for this, and so twice.
    What comes to the driver are groups with equal bytes, and old groups of new files whose split is not the one that
    they would draw now (they were tied, or --shares were others): names and splits.
    """
    stored = done.select(*COLUMNS, F.coalesce("patient_id", "image_id").alias("group"))
    readable = files.where(F.col("length") <= largest(rules.max_pixels))
    twins = _twins(_hashed(_suspects(readable, stored, dicom), read, rules), stored)
    given = _given(files, rules)
    known = {} if stored.isEmpty() else _known(files, stored, twins, rules)
    fixed = {group: word for group, word in given.items() if word in SPLITS} | known
    found = tie(twins, fixed, lambda group, word: split_for(group, word, rules))
    drawn = {group: split_for(group, DEVELOPMENT, rules) for group, word in given.items() if word == DEVELOPMENT}
    return replace(found, splits=drawn | dict(found.splits))


def _given(files: DataFrame, rules: Rules) -> dict[str, str]:
    """What counts for a patient of whom folders or lists give new files different words, or some of them none.

    It is the split that they give, else "development". Where they give two splits, nobody could say which, and of
    DICOM files it is the header that names the patient: there the leak check fails the job.
    """
    words = F.array_sort(F.collect_set(F.coalesce("given_split", F.lit(""))))
    told = files.where("patient_id is not null").groupBy("patient_id").agg(words.alias("words"))
    given = {}
    for patient, words_of_one in told.where(F.size("words") > 1).collect():
        splits = [word for word in words_of_one if word in SPLITS]
        if len(splits) < 2:
            given[str(patient_for(None, patient, rules))] = splits[0] if splits else DEVELOPMENT
    return given


def _suspects(files: DataFrame, stored: DataFrame, dicom: bool) -> DataFrame:
    """Files whose length a file of another patient has as well.

    A file without a patient is a group of its own, and equal ones agree by themselves; but a DICOM file may be of any.
    """
    may_be_any = F.lit(dicom) | F.col("path").rlike(DICOM_NAMES)
    nobody = F.coalesce("patient_id", F.lit(""))
    lengths = files.select("length", F.when(may_be_any, F.col("path")).otherwise(nobody).alias("patient"))
    lengths = lengths.unionAll(stored.select("length", nobody))
    shared = lengths.groupBy("length").agg(F.countDistinct("patient").alias("patients")).where("patients > 1")
    return files.join(shared, "length", "left_semi").select("path", "patient_id", "given_split")


def _hashed(suspects: DataFrame, read: Read, rules: Rules) -> DataFrame:
    """image_id, group, given_split and a null split of files, each read whole, without those that cannot be read."""

    def rows(batches: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        for batch in batches:
            found = [_hash(row["path"], row["patient_id"], read, rules) for row in batch.to_dict("records")]
            hashes = pd.DataFrame(found, columns=["image_id", "group"])
            yield hashes.assign(given_split=batch["given_split"].to_numpy(), split=None).dropna(subset="image_id")

    spread = suspects.repartition(suspects.sparkSession.sparkContext.defaultParallelism)
    return spread.mapInPandas(rows, "image_id string, group string, given_split string, split string").persist()


def _hash(path: str, told: str | None, read: Read, rules: Rules) -> tuple[str | None, str | None]:
    """image_id and group of a file, as `image_row` has them."""
    try:
        content = read(path)
    except DecodeError:  # ingest itself will say so
        return None, None
    image_id = hashlib.sha256(content).hexdigest()
    return image_id, patient_for(header_of(content), told, rules) or image_id


def _twins(hashed: DataFrame, stored: DataFrame) -> list[Twin]:
    """Files of `hashed` and rows of `stored` whose bytes another group has as well."""
    old = stored.join(hashed.select("image_id").distinct(), "image_id", "left_semi")
    both = hashed.unionAll(old.select("image_id", "group", F.lit(None).cast("string"), "split")).distinct()
    groups = F.size(F.collect_set("group").over(Window.partitionBy("image_id")))
    several = both.withColumn("groups", groups).where("groups > 1")
    return [Twin(*row) for row in several.select("image_id", "group", "given_split", "split").collect()]


def _known(files: DataFrame, stored: DataFrame, twins: list[Twin], rules: Rules) -> dict[str, str]:
    """Splits in the table: of the twins' groups, and of other groups of new files where these would draw another.

    Any group of DICOM files may have new ones.
    """
    giving = [row["given_split"] for row in files.select("given_split").distinct().collect()]

    def as_stored(batches: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        for batch in batches:
            groups = [patient_for(None, patient, rules) for patient in batch["patient_id"]]
            yield pd.DataFrame({"group": groups, "twin": False})

    def elsewhere(batches: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        for batch in batches:
            rows = zip(batch["group"], batch["split"], batch["twin"], strict=True)
            moved = [
                bool(twin) or any(split != split_for(group, given, rules) for given in giving)
                for group, split, twin in rows
            ]
            yield batch.loc[moved, ["group", "split"]]

    named = files.select("patient_id").distinct().mapInPandas(as_stored, "group string, twin boolean")
    tied = stored.sparkSession.createDataFrame([(twin.group, True) for twin in twins], named.schema)
    asked = named.unionAll(tied).groupBy("group").agg(F.max("twin").alias("twin"))
    groups = stored.select("group", "split", "format").distinct().join(asked, "group", "left")
    groups = groups.where("twin is not null or format = 'DICOM'").select(
        "group", "split", F.coalesce("twin", F.lit(False)).alias("twin")
    )
    found = groups.mapInPandas(elsewhere, "group string, split string").collect()
    return {row["group"]: row["split"] for row in found}
