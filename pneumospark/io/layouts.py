"""How a corpus tells its labels: recognise the layout and read its own lists; and the secret that hides patients."""

import os
from pathlib import PurePosixPath
from typing import NamedTuple

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from pneumospark.config import IngestConfig
from pneumospark.errors import ConfigError, SourceError
from pneumospark.io.drivers import FAILURES
from pneumospark.io.files import Store, literal, resolve
from pneumospark.labels import GIVEN_SPLITS, NORMAL, PNEUMONIA

NIH_TABLE, NIH_TEST, MANIFESTS = "Data_Entry_2017", "test_list.txt", ("manifest.csv", "manifest.parquet")
NIH_LISTS = ("train_val_list.txt", NIH_TEST, "BBox_List_2017.csv")
RSNA_TABLE, RSNA_CLASSES = "stage_2_train_labels", "stage_2_detailed_class_info.csv"
WITH_TABLE = ("nih", "rsna", "manifest")
PATIENT_KEY = "PNEUMOSPARK_PATIENT_KEY"
CLASS_FOLDERS = {NORMAL, PNEUMONIA}


class Layout(NamedTuple):
    """A recognised layout, the URI of its labels table where it has one, and its own lists, which are no images."""

    name: str
    labels: str | None
    own_files: tuple[str, ...]


def recognise(config: IngestConfig, root: str, store: Store) -> Layout:
    """The layout that the config names or, for "auto", that the first names in the source show.

    A labels table beside class folders wins, since it says more. Raises SourceError where the names show nothing, and
    where a layout with a labels table has none.
    """
    names = store.first_names(root, always=_is_sign)
    signs = {
        "nih": [name for name in names if name.startswith(NIH_TABLE)],
        "rsna": [name for name in names if name.startswith(RSNA_TABLE)],
        "manifest": [name for name in names if name in MANIFESTS],
        "folders": [name for name in names if name.lower() in CLASS_FOLDERS | set(GIVEN_SPLITS)],
        "dicom": [name for name in names if name.lower().endswith((".dcm", ".dicom"))],
    }
    given = resolve(config.labels, store, "--labels") if config.labels else None
    shown = "manifest" if given else next((name for name, found in signs.items() if found), None)
    name = shown if config.layout == "auto" else config.layout
    if name is None:
        raise SourceError(
            f"{root}: --layout auto finds no folders {' or '.join(sorted(CLASS_FOLDERS))}, no manifest.csv, "
            f"no {NIH_TABLE}*.csv, no {RSNA_TABLE}.csv and no .dcm file, but {names[:5] or 'nothing'}; "
            "--layout folders takes any folder's name as label, and none where there is no folder"
        )
    tables = [f"{root}/{table}" for table in signs[name][:1]] if name in WITH_TABLE else []
    labels = given or next(iter(tables), None)
    if labels is None and name in WITH_TABLE:
        raise SourceError(
            f"{root}: --layout {name} expects a labels table in there, found none; name one with --labels"
        )
    own = {"nih": NIH_LISTS, "rsna": (RSNA_CLASSES,)}.get(name, ())
    lists = [f"{root}/{name}" for name in names if name in own]
    return Layout(name, labels, tuple({*tables, *lists, *([labels] if labels else [])}))


def _is_sign(name: str) -> bool:
    """Whether a name tells the layout, or is a list of its own, wherever among many images it stands."""
    lists = (*MANIFESTS, *NIH_LISTS, RSNA_CLASSES)
    return (
        name.startswith((NIH_TABLE, RSNA_TABLE)) or name in lists or name.lower() in CLASS_FOLDERS | set(GIVEN_SPLITS)
    )


def patient_key(file: str | None, store: Store, layout: str = "") -> bytes | None:
    """The secret that hides patient ids: what `file` holds or, without one, of the environment; None where neither is.

    Raises ConfigError for an empty file, and where a layout of DICOM files has no secret.
    """
    if file is not None:
        uri = resolve(file, store, "--patient-key-file")
        try:
            key = store.fetch(uri).strip()
        except FAILURES as error:
            raise ConfigError(f"--patient-key-file {file}: expected a file that this user may read: {error}") from error
        if not key:
            raise ConfigError(f"--patient-key-file {file}: expected a secret, found an empty file")
        return key
    key = os.environ.get(PATIENT_KEY, "").encode().strip()
    if layout in ("dicom", "rsna") and not key:
        raise ConfigError(
            f"--layout {layout}: the files hold patient ids; set {PATIENT_KEY} to a secret that hides them, or name a "
            "file that holds one (--patient-key-file)"
        )
    return key or None


def read_labels(spark: SparkSession, layout: Layout) -> DataFrame | None:
    """The layout's labels table as it is, every CSV column as text; None where the layout has none."""
    if (uri := layout.labels) is None:
        return None
    return (
        spark.read.parquet(literal(uri))
        if PurePosixPath(uri).suffix == ".parquet"
        else spark.read.csv(literal(uri), header=True, escape='"')
    )


def read_second(spark: SparkSession, layout: Layout) -> DataFrame | None:
    """The layout's other list where there is one: of NIH the test files as `relative`, of RSNA the classes."""
    if lists := [uri for uri in layout.own_files if uri.endswith(f"/{NIH_TEST}")]:
        return spark.read.text(literal(lists[0])).select(F.trim("value").alias("relative"))
    if lists := [uri for uri in layout.own_files if uri.endswith(f"/{RSNA_CLASSES}")]:
        return spark.read.csv(literal(lists[0]), header=True)
    return None
