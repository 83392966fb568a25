"""The trivial model: it finds a shortcut that is there, none where there is none, and never by its own patients."""

import images
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from pneumospark.learn.shortcuts import audit, out_of_fold
from pneumospark.pixels.facts import PIXEL_FACTS, pixel_facts
from pneumospark.pixels.prepare import pixels_of
from pneumospark.spec import ImageSpec

RNG = np.random.default_rng(5)
N = 400
TRUTH = RNG.integers(0, 2, N)
PATIENTS = np.array([f"p{n // 2}" for n in range(N)])
NOISE = pd.DataFrame({"mean": RNG.normal(size=N), "border": RNG.normal(size=N)})


def test_a_shortcut_is_found_and_noise_is_none() -> None:
    told = NOISE.assign(std=TRUTH + RNG.normal(0, 0.5, N))
    assert roc_auc_score(TRUTH, out_of_fold(told, TRUTH, PATIENTS)) > 0.85
    assert abs(roc_auc_score(TRUTH, out_of_fold(NOISE, TRUTH, PATIENTS)) - 0.5) < 0.1


def test_no_image_is_judged_by_its_own_patient() -> None:
    """A fact that names the patient, whose label is drawn: told by heart where folds share patients, else chance."""
    patient = RNG.permutation(np.repeat(np.arange(100), 4))
    truth = RNG.integers(0, 2, 100)[patient]
    facts = pd.DataFrame({"mean": patient + RNG.normal(0, 0.01, N)})
    by_heart = roc_auc_score(truth, out_of_fold(facts, truth, np.arange(N)))
    assert by_heart > 0.8 and abs(roc_auc_score(truth, out_of_fold(facts, truth, patient)) - 0.5) < 0.2


def test_the_same_seed_gives_the_same_and_another_one_other_folds() -> None:
    first = out_of_fold(NOISE, TRUTH, PATIENTS, seed=1)
    assert (out_of_fold(NOISE, TRUTH, PATIENTS, seed=1) == first).all()
    assert (out_of_fold(NOISE, TRUTH, PATIENTS, seed=2) != first).any()


@settings(max_examples=10)
@given(st.integers(0, 2**32 - 1))
def test_every_image_gets_a_probability(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth, patients = rng.permutation(np.arange(60) % 3 == 0).astype(int), rng.integers(0, 40, 60)
    facts = pd.DataFrame({"mean": rng.normal(size=60), "bits": np.where(rng.random(60) < 0.2, np.nan, 8)})
    probability = out_of_fold(facts, truth, patients)
    assert probability.shape == (60,) and ((probability >= 0) & (probability <= 1)).all()


def test_few_patients_make_fewer_folds_and_one_makes_none() -> None:
    truth, patients = np.array([0] * 20 + [1] * 4), np.array([*range(20), 20, 20, 21, 22])
    facts = pd.DataFrame({"mean": np.arange(24.0)})
    assert np.isfinite(out_of_fold(facts, truth, patients)).all()
    with pytest.raises(ValueError, match="at least 2 patients of each class for folds, found 1 of the rarer one"):
        out_of_fold(facts, truth, np.array([*range(20), 20, 20, 20, 20]))
    with pytest.raises(ValueError, match="expected one length, got 24, 23, 24"):
        out_of_fold(facts, truth[1:], patients)


def test_the_audit_ranks_facts_folds_them_and_takes_categories() -> None:
    facts = NOISE.assign(
        std=-TRUTH + RNG.normal(0, 0.5, N),  # low stands for pneumonia
        photometric=pd.Categorical(np.where(TRUTH & (RNG.random(N) < 0.3), "RGB", "MONOCHROME2")),
        bits=8.0,
    )
    found = audit(facts, TRUTH, PATIENTS, PIXEL_FACTS)
    assert (found["images"], found["pneumonia"], found["patients"]) == (N, TRUTH.sum(), N // 2)
    rows = {row["fact"]: row for row in found["single"]}
    assert [row["fact"] for row in found["single"]][:2] == ["std", "photometric"] and set(rows) == set(facts)
    assert (rows["std"]["sign"], rows["photometric"]["sign"], rows["std"]["of"]) == ("-", None, "pixels")
    assert rows["std"]["auc"] == pytest.approx(roc_auc_score(TRUTH, -facts["std"])) and rows["std"]["auc"] > 0.85
    assert 0.6 < rows["photometric"]["auc"] < 0.72 and rows["photometric"]["of"] == "file"
    assert (rows["bits"]["auc"], rows["bits"]["interval"]) == (0.5, None)
    for row in [*found["single"], *found["together"].values()]:
        assert row["interval"] is None or row["interval"][0] <= row["auc"] <= row["interval"][1]
    assert found["together"]["all"]["auc"] > 0.85 > found["together"]["file"]["auc"] > 0.55


def test_pixels_without_a_lung_tell_the_label_of_a_real_corpus() -> None:
    """Every eighth image of the corpus of Kermany et al.; all 5,232 give 0.970."""
    paths = images.real("chest_xray/*/*/*.jpeg")[::8]
    if not paths:
        pytest.skip(f"no real data at {images.DATA / 'chest_xray'} (PNEUMOSPARK_DATA names the folder)")
    facts = pd.DataFrame([pixel_facts(pixels_of(path.read_bytes(), ImageSpec())) for path in paths])
    truth = np.array([path.parent.name == "PNEUMONIA" for path in paths]).astype(int)
    patients = [path.name.split("_")[0].rsplit("-", 1)[0] for path in paths]
    found = audit(facts, truth, patients, PIXEL_FACTS)["together"]["pixels"]
    assert 0.93 < found["auc"] < 0.99
