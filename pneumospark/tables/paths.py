"""Paths as tables keep them: as they are or, since those of DICOM files can hold names, as a keyed hash."""

import hashlib
import hmac
import re
from collections.abc import Callable

import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.functions import pandas_udf

from pneumospark.errors import ConfigError

Show = Callable[[str], str]
"""What a table keeps of a path."""

HASHED = "hashed:"
DICOM_NAMES = r"(?i)\.(dcm|dicom|ima)$"


def shown(paths: str, key: bytes | None) -> Show:
    """How the setting `paths` ("plain" or "hashed") shows a path; raises ConfigError for "hashed" without a key.

    Every path is hashed then, not those of DICOM files alone: what is no DICOM file is known only after it was read,
    and of a file that cannot be read never.
    """
    if paths == "plain":
        return str
    if not key:
        raise ConfigError("paths = hashed: expected a secret to hash them with in PNEUMOSPARK_PATIENT_KEY, or a file")
    # A path that a table holds hashed already is left as it is: what is read is no path of a store then.
    return lambda path: path if path.startswith(HASHED) else HASHED + hidden(f"path {path}", key)


def hidden(text: str, key: bytes | None) -> str:
    """HMAC-SHA256, hex, of what must not get out; raises ConfigError without a key."""
    if not key:
        raise ConfigError("DICOM files hold patient ids: set PNEUMOSPARK_PATIENT_KEY to a secret that hides them")
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def as_shown(files: DataFrame, show: Show) -> DataFrame:
    """`files` with paths as tables keep them."""
    if show is str:
        return files

    @pandas_udf("string")  # type: ignore[call-overload, untyped-decorator] # its stubs lack the form by type hints
    def hashed(paths: pd.Series) -> pd.Series:
        return paths.map(show)

    return files.withColumn("path", hashed("path"))


def as_listed(table: DataFrame, listed: DataFrame, show: Show) -> DataFrame:
    """The table's rows with the paths of `listed` where they are those of its files: so a job finds what it knows."""
    if show is str:
        return table
    shown_paths = as_shown(listed.select(F.col("path").alias("listed_path"), "path"), show)
    return table.join(shown_paths, "path", "left").select(
        *(F.coalesce("listed_path", "path").alias("path") if name == "path" else name for name in table.columns)
    )


def check_kind(kept: str, asked: bool, uri: str) -> None:
    """Raise ConfigError unless a table that has kept a path keeps it hashed where that is `asked`, else plain.

    A file would be two files in it. All of a table's paths are of one kind, so any one tells.
    """
    if kept.startswith(HASHED) != asked:
        kinds = ("plain", "hashed") if asked else ("hashed", "plain")
        raise ConfigError(f"{uri} keeps paths {kinds[0]}, these would be {kinds[1]}: see --paths, or name a new table")


def check_patients(done: DataFrame, key: bytes | None, uri: str) -> None:
    """Raise ConfigError unless the patients of a table (`patient_id`, `format`) are hidden as those of a key would be.

    A patient would be two groups in it, and might be in two splits. Those of DICOM files are hidden in any case.
    """
    kept = done.where("format != 'DICOM' and patient_id is not null").select("patient_id").head()
    if kept and bool(re.fullmatch("[0-9a-f]{64}", kept[0])) != (key is not None):
        were, come = ("as they are", "hidden by a secret") if key else ("hidden by a secret", "as they are")
        raise ConfigError(
            f"{uri} keeps patients {were}, these would be {come}: expected PNEUMOSPARK_PATIENT_KEY or "
            f"--patient-key-file {'unset' if key else 'as before'}, or the name of a new table"
        )


def check_key(listed: DataFrame, key: bytes | None) -> None:
    """Raise ConfigError, before anything is read, where names say that files are DICOM and there is no key."""
    if key is None and (count := listed.where(F.col("path").rlike(DICOM_NAMES)).count()):
        raise ConfigError(
            f"{count} files are named as DICOM files, and these hold patient ids: set PNEUMOSPARK_PATIENT_KEY to a "
            "secret that hides them, or name a file that holds one (--patient-key-file)"
        )
