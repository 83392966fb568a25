"""Figures that tell a network that looks at lungs from one that looks at brightness."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from pneumospark.learn.generalisation import CHANGES, generalisation

pytestmark = pytest.mark.tensorflow
SHAPE = (32, 32, 1)


def rows(patients: int = 160) -> Iterator[dict[str, Any]]:
    """A spot is low in pneumonias, high in normals; pneumonias are brighter, too, except in a fifth of each class."""
    random = np.random.default_rng(0)
    for patient in range(patients):
        ill, odd = patient % 2, patient // 2 % 5 == 0
        image = random.normal(90 + 40 * (ill ^ odd), 4, SHAPE[:2])
        image[20:26, 12:20] += 25 if ill else 0
        image[6:12, 12:20] += 0 if ill else 25  # the same pixels elsewhere: no trivial fact tells them apart
        yield {
            "patient_id": f"{'person' if ill else 'IM-' if patient % 4 else 'NORMAL2-IM-'}{patient}",
            "split": "validation" if patient // 2 % 3 == 0 else "train",
            "label": "pneumonia" if ill else "normal",
            "pixels": image.clip(0, 255).astype(np.uint8).tobytes(),
        }


def brightness(x: np.ndarray) -> np.ndarray:
    return x.mean(axis=(1, 2, 3)) / 255


def spot(x: np.ndarray) -> np.ndarray:
    return 0.5 + (x[:, 20:26, 12:20].mean(axis=(1, 2, 3)) - x[:, 6:12, 12:20].mean(axis=(1, 2, 3))) / 510


def test_the_counter_shortcut_part_tells_a_lung_from_a_shortcut() -> None:
    by_brightness = generalisation(rows(), brightness, SHAPE, seed=0)
    by_spot = generalisation(rows(), spot, SHAPE, seed=0)
    assert by_brightness["counter_shortcut"]["roc_auc"] < 0.3
    assert by_spot["counter_shortcut"]["roc_auc"] > 0.95
    assert by_spot["counter_shortcut"]["trivial_roc_auc"] < 0.7 < by_spot["counter_shortcut"]["trivial_roc_auc_of_all"]


def test_each_group_of_patients_is_held_against_the_other_class() -> None:
    groups = generalisation(rows(480), spot, SHAPE, seed=0)["groups"]
    assert set(groups) == {"person", "IM-", "NORMAL2-IM-"}
    judged = [row for row in rows(480) if row["split"] == "validation"]
    ill = sum(row["label"] == "pneumonia" for row in judged)
    of_im = sum(row["patient_id"].startswith("IM-") for row in judged)
    assert groups["IM-"]["images"] == ill + of_im and groups["IM-"]["normal"] == of_im


@pytest.mark.parametrize(
    "patient_id", ["SMITH^ANNA 19581204", "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"]
)
def test_the_images_of_one_patient_are_no_group(patient_id: str) -> None:
    alone = [row | {"patient_id": patient_id} for row in rows(480) if row["patient_id"].startswith("IM-")]
    others = [row for row in rows(480) if not row["patient_id"].startswith("IM-")]
    assert sum(row["split"] == "validation" for row in alone) > 25
    assert set(generalisation([*alone, *others], spot, SHAPE, seed=0)["groups"]) == {"person", "NORMAL2-IM-"}


def test_validation_of_one_class_says_nothing() -> None:
    one_class = [row for row in rows() if row["split"] == "train" or row["label"] == "normal"]
    with pytest.raises(ValueError, match="expected validation images with pneumonia and without"):
        generalisation(one_class, brightness, SHAPE, seed=0)


def test_the_smallest_images_can_be_changed() -> None:
    smallest = np.random.default_rng(0).random((2, 8, 9, 1), np.float32)
    for change in CHANGES.values():
        changed = np.asarray(change(smallest))
        assert changed.shape == smallest.shape and np.isfinite(changed).all()


def test_dependence_is_the_move_of_the_logit() -> None:
    moves = generalisation(rows(), brightness, SHAPE, seed=0)["dependence"]
    assert set(moves) == {"logit", *CHANGES}
    assert moves["brighter"]["mean"] > 0.2 and abs(moves["taller"]["mean"]) < 0.1
    assert abs(generalisation(rows(), spot, SHAPE, seed=0)["dependence"]["brighter"]["mean"]) < 0.05


def test_too_few_patients_are_an_error_that_says_so() -> None:
    with pytest.raises(ValueError, match="at least 2 patients of each class"):
        generalisation(rows(2), spot, SHAPE, seed=0)
