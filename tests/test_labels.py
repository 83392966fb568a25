"""What a path says: patient, label, finding and given split, by the names of the published corpora and any other."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pneumospark.labels import DEVELOPMENT, GIVEN_SPLITS, Labels, from_path

names = st.text(st.characters(exclude_characters="/\0", codec="utf-8"), min_size=1).filter(lambda name: name != ".")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("NORMAL/IM-0115-0001.jpeg", Labels("IM-0115", "normal")),
        ("train/NORMAL/IM-0115-0001-0002.jpeg", Labels("IM-0115", "normal", (), "train")),
        ("test/NORMAL/NORMAL2-IM-0666-0001.jpeg", Labels("NORMAL2-IM-0666", "normal", (), "test")),
        ("val/PNEUMONIA/person12_virus_34.jpeg", Labels("person12", "pneumonia", ("virus",), "validation")),
        ("PNEUMONIA/person12_bacteria_3.jpeg", Labels("person12", "pneumonia", ("bacteria",))),
        ("images/00000013_005.png", Labels("00000013", "images")),
        ("NORMAL/synthetic0001-3.png", Labels("synthetic0001", "normal")),
        ("chest_xray/test/NORMAL/IM-1-2.jpeg", Labels("IM-1", "normal", (), "test")),
        ("COVID/scan 1.png", Labels(None, "covid")),
        ("scan.png", Labels()),
        ("train/scan.png", Labels(None, None, (), "train")),
        ("train_val/NORMAL/x.png", Labels(None, "normal", (), DEVELOPMENT)),
        ("train/PNEUMONIA/BACTERIA-1351146-0002.jpeg", Labels("1351146", "pneumonia", ("bacteria",), "train")),
        ("PNEUMONIA/VIRUS-355597-0002.jpeg", Labels("355597", "pneumonia", ("virus",))),
        ("NORMAL/NORMAL-1049278-0001.jpeg", Labels("1049278", "normal")),
        ("NORMAL/person12_bacteria_3", Labels("person12", "normal", ("bacteria",))),
    ],
)
def test_known_names(path: str, expected: Labels) -> None:
    assert from_path(path) == expected


@pytest.mark.parametrize(
    "name",
    [
        "person12_fungus_3.jpeg",
        "person_bacteria_3.jpeg",
        "xperson12_bacteria_3.jpeg",
        "person12_bacteria_3 (1).jpeg",
        "person12_bacteria_3 copy.jpeg",
        "person12_bacteria_3\n.jpeg",
        "IM-0115.jpeg",
        "00000013_005_2.png",
        "0000013_005.png",
        "PERSON12_bacteria_3.jpeg",
    ],
)
def test_a_name_that_only_looks_like_a_known_one_has_no_patient(name: str) -> None:
    """Half a match would make one patient of several, or several of one: a leak."""
    assert from_path(f"PNEUMONIA/{name}") == Labels(None, "pneumonia")


def test_images_of_a_person_share_the_patient_whatever_the_finding() -> None:
    """Whether the number of a bacteria file and of a virus file is one child is not known: they stay together."""
    paths = ["PNEUMONIA/person7_bacteria_1.jpeg", "PNEUMONIA/person7_virus_2.jpeg", "test/X/person7_virus_3.png"]
    assert {from_path(path).patient_id for path in paths} == {"person7"}


@pytest.mark.parametrize("folder", GIVEN_SPLITS)
def test_given_splits_in_any_case_and_above_or_below_the_class(folder: str) -> None:
    for path in (f"{folder}/NORMAL/a.png", f"NORMAL/{folder}/a.png", f"{folder.upper()}/deep/NORMAL/a.png"):
        assert (from_path(path).given_split, from_path(path).label) == (GIVEN_SPLITS[folder], "normal")


def test_the_nearest_class_is_the_label_and_without_one_the_nearest_folder() -> None:
    """Folders by year or by patient below a class are not the class: their images would teach nothing, in silence."""
    assert from_path("hospital/2026/PNEUMONIA/a.png").label == "pneumonia"
    assert from_path("train/PNEUMONIA/2026/DOE^JOHN/a.png").label == "pneumonia"
    assert from_path("normal/other/a.png").label == "other"
    assert from_path("COVID/2026/a.png").label == "2026"


@settings(deadline=None)
@given(st.lists(names, max_size=5), names)
def test_any_path_says_something_or_nothing(folders: list[str], name: str) -> None:
    found = from_path("/".join([*folders, name]))
    assert found.given_split in {None, *GIVEN_SPLITS.values()}
    assert found.label is None or found.label in [folder.lower() for folder in folders]
    assert (found.label is None) == all(folder.lower() in GIVEN_SPLITS for folder in folders)
    assert found.patient_id is None or found.patient_id in name
