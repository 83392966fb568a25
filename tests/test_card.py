"""Model cards: what the facts say is in them, nothing else, and nobody can change one afterwards."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pneumospark.errors import BundleError
from pneumospark.io import bundle
from pneumospark.io.card import model_card
from pneumospark.io.files import Store
from pneumospark.learn.bootstrap import Terms
from pneumospark.learn.metrics import metrics
from pneumospark.spec import ImageSpec

PUBLISHED = metrics(
    np.repeat([0, 0, 1, 1], [190, 44, 11, 379]), np.repeat([0.2, 0.9, 0.2, 0.9], [190, 44, 11, 379]), 0.5
)


class Saved:
    """Stands for a network: a bundle asks it for its file only."""

    def save(self, path: Path) -> None:
        path.write_bytes(b"weights")


def facts(**other: Any) -> dict[str, Any]:
    threshold = {"value": 0.4, "rule": "youden", "chosen_on": "validation"}
    return {"spec": ImageSpec(8, 8).to_dict(), "labels": ["normal", "pneumonia"], "threshold": threshold} | other


def whole() -> dict[str, Any]:
    splits = {"train": {"rows": 7, "digest": "abc", "normal": 3, "pneumonia": 4}}
    return facts(
        recipe={"network": "residual", "seed": 11, "augment": True, "devices": [], "note": "a|b"},
        data={"column": "pixels", "version": "v", "splits": splits},
        calibration={"method": "temperature scaling", "temperature": 1.25, "fitted_on": "validation"},
        validation=PUBLISHED,
        history={"loss": [0.5, 0.4]},
        versions={"keras": "3.15.1"},
        backbone="keras:Some",
        members=["7f3a", "00ff"],
        generalisation={
            "counter_shortcut": {
                "images": 90,
                "roc_auc": 0.9,
                "interval": None,
                "trivial_roc_auc": 0.4,
                "trivial_roc_auc_of_all": 0.968,
            },
            "groups": {"IM-": {"images": 30, "roc_auc": 0.95, "interval": [0.91, 0.98]}},
        },
    )


def test_a_card_says_what_the_facts_say() -> None:
    text = " ".join(model_card(whole()).split())
    for said in (
        "| train | 7 | 3 | 4 | `abc` |",
        "| `seed` | 11 |",
        "| `augment` | true | | `devices` | none |",
        r"| `note` | a\|b |",
        "at or above 0.4, else **normal**",
        "by the rule `youden`",
        "temperature 1.25",
        "| sensitivity (recall) | 0.972 | 0.950 to 0.984 |",
        "190 true negatives, 44 false positives, 11 false negatives, 379 true positives",
        "Epochs run: 2",
        "- keras 3.15.1",
        "pre-trained backbone, `keras:Some`",
        "the mean of 2 models, `7f3a`, `00ff`",
        "90 images, the area under the ROC curve is 0.900 (95 % by DeLong, images taken for independent: undefined)",
        "that trivial model has 0.968",
        "- patients `IM-…` against all of the other class: 0.950 (0.910 to 0.980), 30 images",
        "not for diagnosis",
        "one hospital",
        "children of one to five years",
    ):
        assert said in text, said


GIVEN = {"value": 0.5, "rule": "0.5", "chosen_on": None}
FITTED = {"method": "temperature", "temperature": 2.0, "fitted_on": "validation"}


@pytest.mark.parametrize(
    ("known", "chosen", "share"),
    [
        (
            {"recipe": {"schedule": "cosine"}},
            "the threshold and the calibration, so",
            "the validation images, on which",
        ),
        (
            {"threshold": GIVEN, "calibration": {"method": "none"}},
            "the best epoch, so",
            "the images it was trained on;",
        ),
        ({}, "the threshold, the calibration and the best epoch, so", "the validation images, on which"),
        ({"history": {}, "members": ["7f3a"]}, "the threshold, the calibration and what its members' cards name", ""),
        (
            {"threshold": GIVEN, "calibration": None, "recipe": {"schedule": "cosine", "class_weights": "balanced"}},
            "no threshold, no calibration and no epoch;",
            "the images it was trained on, each class weighted alike;",
        ),
    ],
)
def test_what_validation_chose_is_that_of_the_recipe(known: dict[str, Any], chosen: str, share: str) -> None:
    of_one = whole() | {"members": [], "recipe": {"schedule": "plateau"}, "calibration": FITTED}
    card = " ".join(model_card(of_one | known).split())
    assert f"Validation chose {chosen}" in card
    assert f"The probability holds for the share of pneumonia among {share}" in card
    assert "`evaluate` judges a test set" in card and "Nearer to what new images" not in card


def test_intervals_of_each_output_are_called_what_they_are() -> None:
    outputs = {"mass": {"n": 80, "positives": 4, "roc_auc": 0.7, "interval": [0.5, 0.9]}}
    validation = PUBLISHED | {"outputs": outputs, "macro_roc_auc": 0.7}
    _, after = model_card(whole() | {"validation": validation}).split("| mass | 80 | 4 | 0.700 | 0.500 to 0.900 |")
    assert after.strip().startswith("These intervals are DeLong's, which take images for independent.")
    assert "These intervals" not in model_card(whole())


def test_a_figure_that_resamples_say_nothing_of_has_the_interval_in_closed_form() -> None:
    truth = np.repeat([0, 1], 40)
    probability = np.where(truth == 1, 0.9, np.where(np.arange(80) < 4, 0.8, 0.1))
    judged = metrics(truth, probability, 0.5, np.arange(80), Terms(resamples=100))
    card = model_card(whole() | {"validation": judged})
    assert "| sensitivity (recall) | 1.000 | 0.912 to 1.000 (Wilson's) |" in card
    low, high = judged["bootstrap"]["intervals"]["specificity"]
    assert f"| specificity | 0.900 | {low:.3f} to {high:.3f} |" in card
    assert "Wilson's)" not in model_card(whole())  # of all of them it is said once


@pytest.mark.parametrize(
    "left_out", ["recipe", "data", "calibration", "validation", "history", "versions", "generalisation"]
)
def test_what_is_not_known_is_not_said(left_out: str) -> None:
    known = {name: value for name, value in whole().items() if name != left_out}
    card = model_card(known)
    assert len(card) < len(model_card(whole()))
    assert "undefined" not in model_card(facts()).lower() and "None" not in card


def test_text_from_outside_is_shown_and_not_obeyed() -> None:
    text = "`a` <b>|\n# [x](http://y) 1 & 2*3"
    known = whole() | {"backbone": text, "recipe": {"note": text}}
    known["generalisation"]["groups"] = {text: known["generalisation"]["groups"]["IM-"]}
    shown = r"'a' &lt;b&gt;\| # \[x\](http://y) 1 &amp; 2\*3"
    for said in (f"pre-trained backbone, `{shown}`.", f"| `note` | {shown} |", f"- patients `{shown}…` against"):
        assert said in model_card(known)


def test_a_card_can_be_made_again_from_the_stored_facts() -> None:
    """Tuples come back from JSON as lists."""
    made = facts(recipe={"devices": ("GPU:0", "GPU:1"), "none": (), "version": None})
    card = model_card(made)
    assert card == model_card(json.loads(json.dumps(made)))
    assert "| `devices` | GPU:0, GPU:1 |\n| `none` | none |\n| `version` | none |" in card


def test_the_id_covers_the_card(tmp_path: Path) -> None:
    uri, store, card = f"file://{tmp_path}/b", Store(), tmp_path / "b" / bundle.CARD
    bundle.write(uri, Saved(), whole(), store)
    assert card.read_text() == model_card(whole())
    assert bundle.read(uri, store).facts["recipe"]["seed"] == 11
    for changed in (card.read_text().replace("0.972", "0.999"), ""):
        card.write_text(changed)
        with pytest.raises(BundleError, match=r"b/model_card\.md: expected the card that was written with the model"):
            bundle.read(uri, store)
    card.unlink()
    with pytest.raises(BundleError, match=r"expected a bundle of .*model_card\.md"):
        bundle.read(uri, store)
