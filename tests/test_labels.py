"""What a path tells: patient, label, finding and given split."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pneumospark.labels import Labels, from_path


@pytest.mark.parametrize(
    ("path", "labels"),
    [
        ("PNEUMONIA/person12_bacteria_34.jpeg", Labels("person12", "pneumonia", ("bacteria",))),
        ("train/PNEUMONIA/person12_virus_35.jpeg", Labels("person12", "pneumonia", ("virus",), "train")),
        ("val/NORMAL/IM-0115-0001.jpeg", Labels("IM-0115", "normal", (), "validation")),
        ("chest_xray/test/NORMAL/NORMAL2-IM-0666-0001-0002.jpeg", Labels("NORMAL2-IM-0666", "normal", (), "test")),
        ("NORMAL/synthetic0012-3.png", Labels("synthetic0012", "normal")),
        ("images/00000013_005.png", Labels("00000013", "images")),
        ("COVID/scan 1.png", Labels(None, "covid")),
        ("scan.png", Labels()),
        ("test/scan.png", Labels(None, None, (), "test")),
        ("NORMAL/person12_bacteria_34 copy.jpeg", Labels(None, "normal")),
    ],
)
def test_a_path_tells(path: str, labels: Labels) -> None:
    assert from_path(path) == labels


@given(st.text(st.characters(blacklist_characters="/\x00", blacklist_categories=("Cs",)), min_size=1))
def test_any_name_has_a_label_of_its_folder(name: str) -> None:
    assert from_path(f"NORMAL/{name}x").label == "normal"
