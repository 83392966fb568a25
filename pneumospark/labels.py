"""What a file's place says of it: patient, label, findings and given split, from its path below the source."""

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

PNEUMONIA, NORMAL, OTHER = "pneumonia", "normal", "other"
CLASSES = (PNEUMONIA, NORMAL, OTHER)
DEVELOPMENT = "development"
"""A given split that says only "not test": train or validation, by the patient."""

GIVEN_SPLITS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "train_val": DEVELOPMENT,
    DEVELOPMENT: DEVELOPMENT,
}

PATIENT_IN_NAME = (
    # Kermany et al. 2018 (doi:10.17632/rscbjbr9sj.2): person12_bacteria_34, and IM-0115-0001, NORMAL2-IM-0666-0001-0002
    re.compile(r"(?P<patient>person\d+)_(?P<finding>bacteria|virus)_\d+"),
    re.compile(r"(?P<patient>(?:NORMAL\d*-)?IM-\d+)(?:-\d+)+"),
    # their later release, disease, patient, image: BACTERIA-1351146-0002, NORMAL-1049278-0001
    re.compile(r"(?:(?P<finding>BACTERIA|VIRUS)|NORMAL)-(?P<patient>\d+)-\d{4}"),
    # NIH ChestX-ray14: 00000013_005
    re.compile(r"(?P<patient>\d{8})_\d{3}"),
    # the drawings of pneumospark.synthetic
    re.compile(r"(?P<patient>synthetic\d+)-\d+"),
)


@dataclass(frozen=True)
class Labels:
    """What is known of one file before it is opened; None where nothing is."""

    patient_id: str | None = None
    label: str | None = None
    findings: tuple[str, ...] = ()
    given_split: str | None = None


def from_path(relative: str) -> Labels:
    """Labels of a file in class folders, `[train|val|test/]NORMAL/name.jpeg`, from its path relative to the source.

    The label is the nearest folder that names one of CLASSES, else the nearest folder, in lower case, and none for a
    file that lies in the source itself or directly in a split's folder: a class's folder may have others below it,
    by year or by patient. Patient and finding come from the name where it follows a known pattern; a name that follows
    none has no patient, and the image then counts as a patient of its own.
    """
    *folders, name = PurePosixPath(relative).parts
    split = next((GIVEN_SPLITS[folder.lower()] for folder in folders if folder.lower() in GIVEN_SPLITS), None)
    classes = [folder.lower() for folder in folders if folder.lower() not in GIVEN_SPLITS]
    patient, findings = _from_name(PurePosixPath(name).stem)
    nearest = [*classes[-1:], *(name for name in classes if name in CLASSES)]
    return Labels(patient, nearest[-1] if nearest else None, findings, split)


def _from_name(stem: str) -> tuple[str | None, tuple[str, ...]]:
    for pattern in PATIENT_IN_NAME:
        if match := pattern.fullmatch(stem):
            finding = match.groupdict().get("finding")
            return match["patient"], (finding.lower(),) if finding else ()
    return None, ()
