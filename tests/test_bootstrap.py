"""Intervals over resampled patients: vectorised figures are those of scikit-learn, and patients are what is drawn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pneumospark.learn import bootstrap
from pneumospark.learn.bootstrap import Curve, Terms, bounds, draw, mirrored
from pneumospark.learn.intervals import wilson
from pneumospark.learn.metrics import metrics

WAYS = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.7, 1.0])  # few, so that ties are common
IMAGE = st.tuples(st.integers(0, 1), WAYS, st.integers(0, 3))


def cohort(patients=200, images=1, seed=0):
    """Truth, probability and patient, (patients * images,): every image of a patient is the same."""
    generator = np.random.default_rng(seed)
    truth = np.arange(patients) % 2
    probability = np.clip(generator.normal(0.35 + 0.3 * truth, 0.25), 0, 1)
    return [np.repeat(values, images) for values in (truth, probability, np.arange(patients))]


@settings(max_examples=200)
@given(st.lists(IMAGE, min_size=1, max_size=20).filter(lambda images: sum(weight for _, _, weight in images) > 0), WAYS)
def test_figures_under_weights_are_those_of_repeated_images(images, threshold):
    truth, probability, weights = map(np.array, zip(*images, strict=True))
    expected = metrics(np.repeat(truth, weights), np.repeat(probability, weights), threshold)
    for name, values in Curve(truth, probability, threshold).figures(weights[np.newaxis], 0.1).items():
        if expected[name] is None and name in ("average_precision", "f1"):
            continue
        assert values[0] == pytest.approx(np.nan if expected[name] is None else expected[name], nan_ok=True), name


def test_more_images_of_the_same_patients_are_no_more_evidence():
    terms = Terms(resamples=200)
    single, fourfold = cohort(), cohort(images=4)
    one, four = (metrics(truth, probability, 0.5, who, terms) for truth, probability, who in (single, fourfold))
    for name, interval in one["bootstrap"]["intervals"].items():
        assert four["bootstrap"]["intervals"][name] == pytest.approx(interval), name
    assert np.ptp(four["intervals"]["recall"]) < 0.6 * np.ptp(one["intervals"]["recall"])


def test_with_one_image_each_it_agrees_with_the_closed_forms():
    truth, probability, patients = cohort(400)
    figures = metrics(truth, probability, 0.5, patients)
    assert figures["bootstrap"] | {"intervals": None} == {
        "patients": 400,
        "resamples": 2000,
        "seed": 0,
        "intervals": None,
    }
    for name in ("accuracy", "recall", "specificity", "roc_auc"):
        assert figures["bootstrap"]["intervals"][name] == pytest.approx(figures["intervals"][name], abs=0.012), name


def test_the_interval_of_a_share_is_binomial():
    """A share of 0.3 over 300 patients: its standard error is (0.3 * 0.7 / 300) ** 0.5 = 0.0265."""
    truth, called = np.ones(300, np.int64), np.repeat([0.9, 0.1], [90, 210])
    low, high = metrics(truth, called, 0.5, np.arange(300))["bootstrap"]["intervals"]["recall"]
    assert high - low == pytest.approx(2 * 1.96 * 0.0265, rel=0.07)
    assert [low, high] == pytest.approx(wilson(90, 300), abs=0.01)


def test_a_seed_draws_the_same_whatever_the_parts(monkeypatch):
    args = (*cohort(50)[:2], 0.5, cohort(50)[2])
    whole, other = draw(*args, Terms(resamples=30)), draw(*args, Terms(resamples=30, seed=1))
    monkeypatch.setattr(bootstrap, "CELLS", 50 * 7)
    parts = draw(*args, Terms(resamples=30))
    assert all(np.allclose(whole[name], parts[name], rtol=1e-12) for name in whole) and len(whole["recall"]) == 30
    assert not np.array_equal(whole["recall"], other["recall"])


def test_the_interval_of_a_calibration_error_reaches_down_to_the_truth():
    """Of probabilities that are right by construction it is 0; plain percentiles are all above that."""
    lows = []
    for seed in range(20):
        random = np.random.default_rng(seed)
        probability = random.uniform(size=600)
        truth = (random.uniform(size=600) < probability).astype(int)
        found = metrics(truth, probability, 0.5, np.arange(600) // 2, Terms(resamples=200))
        low, high = found["bootstrap"]["intervals"]["ece"]
        assert 0 <= low <= found["ece"] <= high
        lows.append(low)
        assert bounds(draw(truth, probability, 0.5, np.arange(600) // 2, Terms(resamples=200)))["ece"][0] > 0
    assert lows.count(0) > 10
    assert mirrored([0.1, 0.3], 0.2) == pytest.approx([0.1, 0.3]) and mirrored(None, 0.2) is None


def test_no_interval_where_there_is_none_to_have():
    assert draw(*cohort(9)[:2], 0.5, cohort(9)[2], Terms()) is None
    assert metrics([0, 1] * 8, [0.1, 0.9] * 8, 0.5, [1, 2] * 8)["bootstrap"]["intervals"] == {}
    always, seldom = np.full(100, 0.8), np.where(np.arange(100) < 90, np.nan, np.linspace(0, 1, 100))
    enough = np.where(np.arange(100) < 4, np.nan, np.linspace(0, 1, 100))
    found = bounds({"always": always, "seldom": seldom, "enough": enough})
    assert found["always"] is None and found["seldom"] is None
    assert found["enough"] == pytest.approx([0.064, 0.976], abs=1e-3)
