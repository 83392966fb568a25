import json
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pneumospark.learn.bootstrap import Terms
from pneumospark.learn.metrics import curves, metrics, precision_recall, reliability, roc

NEEDS_BOTH = ("roc_auc", "ppv", "npv", "specificity_at_sensitivity_0.95", "specificity_at_sensitivity_0.972")
PROPORTIONS = ("accuracy", "precision", "recall", "specificity")


@pytest.fixture(scope="module")
def published():
    """The figures for the published confusion matrix: 190 tn, 44 fp, 11 fn, 379 tp."""
    truth = np.repeat([0, 0, 1, 1], [190, 44, 11, 379])
    return metrics(truth, np.repeat([0.2, 0.9, 0.2, 0.9], [190, 44, 11, 379]), 0.5)


@st.composite
def evaluations(draw):
    n = draw(st.integers(1, 30))
    truth = draw(st.lists(st.integers(0, 1), min_size=n, max_size=n))
    # few distinct values, so that ties are common
    probability = draw(st.lists(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.7, 1.0]), min_size=n, max_size=n))
    return np.array(truth), np.array(probability)


def test_published_figures(published):
    assert published["confusion"] == {"tn": 190, "fp": 44, "fn": 11, "tp": 379}
    assert (published["n"], published["negatives"], published["positives"]) == (624, 234, 390)
    expected = {"accuracy": 0.9119, "precision": 0.8960, "recall": 0.9718, "f1": 0.9323, "specificity": 0.8120}
    assert {name: round(published[name], 4) for name in expected} == expected


def test_wilson_intervals_of_the_published_matrix(published):
    z, n, share = 1.959964, 234, 190 / 234
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    spread = z / (1 + z**2 / n) * (share * (1 - share) / n + z**2 / (4 * n**2)) ** 0.5
    assert published["intervals"]["specificity"] == pytest.approx([middle - spread, middle + spread], abs=1e-6)


def test_predictive_values_at_a_prevalence_by_counting(published):
    """Of 10,000 people with a prevalence of 10 %: 1,000 ill, 9,000 well, called at the published rates."""
    found, alarms = 1000 * 379 / 390, 9000 * 44 / 234
    assert published["prevalence"] == 0.1
    assert published["ppv"] == pytest.approx(found / (found + alarms))
    assert published["npv"] == pytest.approx((9000 - alarms) / (9000 - alarms + 1000 - found))


def test_predictive_value_at_the_own_prevalence_is_the_precision():
    truth, probability = [0, 0, 0, 1, 1], [0.1, 0.2, 0.8, 0.3, 0.9]
    figures = metrics(truth, probability, 0.5, terms=Terms(prevalence=0.4))
    assert figures["ppv"] == pytest.approx(figures["precision"])


def test_specificity_at_a_sensitivity_is_that_of_the_highest_threshold_that_reaches_it():
    truth = np.repeat([1, 0], 20)
    probability = np.concatenate([np.linspace(1, 0.05, 20), [0.12] * 4, [0.07] * 3, [0.01] * 13])
    figures = metrics(truth, probability, 0.5)
    # 19 of 20 positives lie at or above 0.1, 20 of 20 at or above 0.05
    assert figures["specificity_at_sensitivity_0.95"] == pytest.approx(16 / 20)
    assert figures["specificity_at_sensitivity_0.972"] == pytest.approx(13 / 20)


def test_calibration_error_by_hand():
    """Bins (0.2, 0.3] and (0.8, 0.9]: gaps of 0.25 - 0.5 over two images and 0.9 - 1 over one."""
    assert metrics([0, 1, 1], [0.25, 0.25, 0.9], 0.5)["ece"] == pytest.approx((2 * 0.25 + 0.1) / 3)


def test_errors_of_the_probabilities():
    figures = metrics([0, 1, 1, 0], [0.0, 0.5, 1.0, 1.0], 0.5)
    assert figures["mse"] == figures["brier"] == pytest.approx((0.25 + 1) / 4)
    assert figures["mae"] == pytest.approx(1.5 / 4)
    assert figures["rmse"] ** 2 == pytest.approx(figures["mse"])


def test_a_probability_at_the_threshold_is_called_pneumonia():
    assert metrics([0, 1], [0.3, 0.7], 0.7)["confusion"] == {"tn": 1, "fp": 0, "fn": 0, "tp": 1}


def test_delong_as_another_program_gives_it():
    # data and result: the README of https://github.com/srijitseal/pauc
    truth = [0, 0, 1, 1, 0, 1, 0, 0, 1, 1, 0, 1]
    probability = [0.1, 0.35, 0.24, 0.8, 0.2, 0.85, 0.13, 0.85, 0.74, 0.58, 0.71, 0.25]
    figures = metrics(truth, probability, 0.5)
    assert round(figures["roc_auc"], 3) == 0.708
    assert [round(bound, 3) for bound in figures["intervals"]["roc_auc"]] == [0.378, 1.0]


def test_delong_by_all_pairs_with_ties():
    generator = np.random.default_rng(1)
    truth = generator.permutation(np.repeat([0, 1], [60, 40]))
    probability = np.clip(np.round(generator.normal(0.4 + 0.15 * truth, 0.2), 1), 0, 1)
    positive, negative = probability[truth == 1], probability[truth == 0]
    pairs = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)  # DeLong et al. 1988, equation 2
    error = (pairs.mean(axis=1).var(ddof=1) / 40 + pairs.mean(axis=0).var(ddof=1) / 60) ** 0.5
    expected = [pairs.mean() - 1.959964 * error, pairs.mean() + 1.959964 * error]
    figures = metrics(truth, probability, 0.5)
    assert figures["roc_auc"] == pytest.approx(pairs.mean())
    assert figures["intervals"]["roc_auc"] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("truth", "probability"),
    [([0, 1, 1], [0.1, 0.8, 0.9]), ([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9]), ([0, 1] * 3, [0.5] * 6)],
)
def test_no_auc_interval_where_the_data_give_it_no_width(truth, probability):
    figures = metrics(truth, probability, 0.5)
    assert figures["roc_auc"] is not None
    assert figures["intervals"]["roc_auc"] is None


@pytest.mark.parametrize(
    ("truth", "probability", "undefined"),
    [
        ([0, 0], [0.1, 0.9], {"recall", "average_precision", *NEEDS_BOTH}),
        ([0, 0], [0.1, 0.2], {"precision", "recall", "f1", "average_precision", *NEEDS_BOTH}),
        ([1, 1], [0.1, 0.9], {"specificity", *NEEDS_BOTH}),
        ([0, 1], [0.1, 0.2], {"precision", "ppv"}),
    ],
)
def test_undefined_is_none(truth, probability, undefined):
    figures = metrics(truth, probability, 0.5)
    assert {name for name, value in figures.items() if value is None} == undefined | {"bootstrap"}
    assert all(figures["intervals"][name] is None for name in undefined & figures["intervals"].keys())


@settings(deadline=None)
@given(evaluations(), st.sampled_from([0.0, 0.3, 0.5, 1.0]))
def test_any_input_gives_json_without_nan_or_warning(evaluation, threshold):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figures = metrics(*evaluation, threshold, np.arange(len(evaluation[0])) // 2, Terms(resamples=20))
        curves(*evaluation)
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures
    for name in (*PROPORTIONS, "roc_auc"):
        if figures["intervals"][name] is not None:
            low, high = figures["intervals"][name]
            assert 0 <= low <= figures[name] + 1e-12 and figures[name] - 1e-12 <= high <= 1


@settings(deadline=None, max_examples=30)
@given(evaluations(), st.randoms())
def test_the_order_of_images_does_not_matter(evaluation, random):
    truth, probability = evaluation
    order = random.sample(range(len(truth)), len(truth))
    one, other = metrics(truth, probability, 0.5), metrics(truth[order], probability[order], 0.5)
    assert one["confusion"] == other["confusion"]
    assert one["roc_auc"] == other["roc_auc"]
    assert one["brier"] == pytest.approx(other["brier"])


@pytest.mark.parametrize(
    ("truth", "probability", "threshold", "message"),
    [
        ([0, 1], [0.1], 0.5, r"expected two arrays \(n,\) of one length n >= 1, got shapes \(2,\) and \(1,\)"),
        ([0, 1], [[0.1], [0.2]], 0.5, r"got shapes \(2,\) and \(2, 1\)"),
        ([], [], 0.5, r"got shapes \(0,\) and \(0,\)"),
        ([0, 2], [0.1, 0.2], 0.5, r"truth: expected labels 0 and 1, got 2 \(1 of 2 are neither\)"),
        ([0, None], [0.1, 0.2], 0.5, r"truth: expected labels 0 and 1, got None \(1 of 2 are neither\)"),
        (["0", "1"], [0.1, 0.2], 0.5, r"truth: expected labels 0 and 1, got '0' \(2 of 2 are neither\)"),
        ([0, 1], [0.1, np.nan], 0.5, r"probability: expected 0 to 1, got nan \(1 of 2 are outside\)"),
        ([0, 1], [-0.1, 1.5], 0.5, r"probability: expected 0 to 1, got -0.1 \(2 of 2 are outside\)"),
        ([0, 1], [0.1, 0.2], np.nan, r"threshold: expected 0 to 1, got nan"),
    ],
)
def test_bad_input_says_what_was_expected_and_what_came(truth, probability, threshold, message):
    with pytest.raises(ValueError, match=message):
        metrics(truth, probability, threshold)


def test_roc_goes_through_the_operating_point():
    truth, probability = [0, 0, 1, 1, 1], [0.2, 0.6, 0.4, 0.7, 0.9]
    points = {(round(x, 6), round(y, 6)) for x, y in zip(*roc(truth, probability), strict=True)}
    assert {(0.0, 0.0), (0.5, 1.0), (1.0, 1.0)} <= points
    assert roc([1, 1], [0.2, 0.3]) is None


def test_precision_recall_starts_at_the_share_of_positives():
    recall, precision = precision_recall([0, 0, 0, 1], [0.1, 0.2, 0.9, 0.8])
    assert (recall[0], precision[0]) == (1.0, 0.25)
    assert (1.0, 0.5) in zip(recall, precision, strict=True)  # the highest threshold that still finds all
    assert precision_recall([0, 0], [0.2, 0.3]) is None


@settings(deadline=None)
@given(evaluations())
def test_reliability_bins_hold_what_they_say(evaluation):
    truth, probability = evaluation
    mean, share, low, high = reliability(truth, probability)
    bins = np.maximum(np.ceil(probability * 10 - 1e-9), 1)  # (0.1, 0.2] and so on, the first one with its 0
    expected = [(probability[bins == one].mean(), truth[bins == one].mean()) for one in np.unique(bins)]
    np.testing.assert_allclose(np.stack([mean, share], axis=1), expected)
    assert (low <= share + 1e-12).all() and (share - 1e-12 <= high).all()


def test_a_fuller_reliability_bin_has_a_narrower_interval():
    _, _, low, high = reliability([0, 1] + [0, 1] * 50, [0.15] * 2 + [0.85] * 100)
    few, many = high - low
    assert few > 3 * many
