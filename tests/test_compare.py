"""Two models on the same images, against worked examples; and parts of the images."""

import numpy as np
import pytest

from pneumospark.learn.bootstrap import Terms
from pneumospark.learn.compare import compare, mcnemar
from pneumospark.learn.intervals import delong_pair
from pneumospark.learn.metrics import metrics
from pneumospark.learn.subgroups import FIGURES, MOST, NONE, OTHERS, subgroups

FEW = Terms(resamples=100)


def scored(n=400, seed=0):
    """Truth (n,) and two models' probabilities, the second one the better."""
    generator = np.random.default_rng(seed)
    truth = np.arange(n) % 2
    shared = generator.normal(0, 0.15, n)
    one, two = (np.clip(0.35 + 0.3 * truth + shared + generator.normal(0, s, n), 0, 1) for s in (0.3, 0.05))
    return truth, one, two


def test_delong_of_a_pair_by_hand():
    """The first orders all; the second's positives lie above 0, 2, 2 of 2 negatives, both negatives below 2 of 3.

    Placements differ by 1, 0, 0 (variance 1/3, over 3: 1/9) and by 1/3, 1/3 (variance 0): z = (1/3) / (1/3).
    """
    truth = np.array([0, 0, 1, 1, 1])
    first, second = np.array([0.1, 0.2, 0.6, 0.7, 0.8]), np.array([0.3, 0.6, 0.2, 0.7, 0.9])
    found = delong_pair(truth, first, second)
    assert (found["first"], found["second"]) == (1.0, pytest.approx(2 / 3))
    assert found["z"] == pytest.approx(1)
    assert found["p"] == pytest.approx(0.3173, abs=1e-4)
    assert found["interval"] == pytest.approx([1 / 3 - 1.959964 / 3, 1 / 3 + 1.959964 / 3], abs=1e-6)
    assert delong_pair(truth, second, first)["z"] == pytest.approx(-1)


def test_delong_of_a_pair_by_all_pairs_of_images():
    """DeLong et al. 1988, equations 4 to 6: the covariance of the areas by the structural components of each pair."""
    truth, *both = scored(90)
    both = [np.round(probability, 1) for probability in both]  # ties
    components = []
    for probability in both:
        positive, negative = probability[truth == 1], probability[truth == 0]
        pairs = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)
        components.append((pairs.mean(axis=1), pairs.mean(axis=0)))
    covariance = sum(np.cov(components[0][i], components[1][i]) / 45 for i in range(2))
    contrast = np.array([1, -1])
    found = delong_pair(truth, *both)
    difference = components[0][0].mean() - components[1][0].mean()
    assert found["z"] == pytest.approx(difference / (contrast @ covariance @ contrast) ** 0.5)


def test_a_model_against_itself_and_too_few_images():
    truth, one, _ = scored(40)
    assert delong_pair(truth, one, one)["p"] is None and delong_pair(truth, one, one)["difference"] == 0
    assert set(delong_pair(truth[:2], one[:2], one[:2]).values()) == {None}
    found = compare(truth, (one, 0.5), (one, 0.5), np.arange(40), FEW)
    assert {record["p"] for record in found["mcnemar"].values()} == {1.0}
    assert set(found["bootstrap"]["intervals"].values()) == {None}


def test_mcnemar_exact_by_the_binomial():
    """1 against 7: 2 * (C(8, 0) + C(8, 1)) / 2 ** 8 = 18 / 256."""
    first, second = np.repeat([True, False, True], [1, 7, 20]), np.repeat([False, True, True], [1, 7, 20])
    expected = {"n": 28, "only_first_right": 1, "only_second_right": 7, "p": pytest.approx(18 / 256)}
    assert mcnemar(first, second) == expected


def test_compare_sees_the_better_one_and_says_by_how_much():
    truth, one, two = scored()
    found = compare(truth, (two, 0.5), (one, 0.4), np.arange(400) // 2, FEW)
    figures = [metrics(truth, *scores) for scores in ((two, 0.5), (one, 0.4))]
    assert found["delong"]["first"] == pytest.approx(figures[0]["roc_auc"]) and found["delong"]["p"] < 0.01
    counts = found["mcnemar"]["recall"]
    won = counts["only_first_right"] - counts["only_second_right"]
    assert won == figures[0]["confusion"]["tp"] - figures[1]["confusion"]["tp"]
    for name in ("accuracy", "recall", "roc_auc"):
        low, high = found["bootstrap"]["intervals"][name]
        assert low < figures[0][name] - figures[1][name] < high
    assert found["bootstrap"]["intervals"]["roc_auc"][0] > 0


def test_a_group_has_the_figures_of_its_images():
    truth, probability, _ = scored()
    views = [("PA",) if n % 3 else ("AP",) for n in range(400)]
    found = subgroups(truth, probability, 0.5, np.arange(400) // 4, {"view": views}, FEW)
    assert [(record["group"], record["n"]) for record in found] == [("PA", 266), ("AP", 134)]
    part = np.arange(400) % 3 == 0
    alone = metrics(truth[part], probability[part], 0.5, np.arange(400)[part] // 4, FEW)
    assert {name: found[1][name] for name in FIGURES} == {name: alone[name] for name in FIGURES}
    assert found[1]["bootstrap"] == {name: alone["bootstrap"]["intervals"][name] for name in FIGURES}
    assert (found[0]["patients"], found[1]["patients"]) == (100, 100)
    assert found[1]["intervals"]["recall"] == alone["intervals"]["recall"]
    assert not found[1]["auc_against_all"]


def test_a_kind_of_pneumonia_is_judged_against_all_normals():
    truth, probability, _ = scored()
    findings = [() if not ill else ("viral",) if n % 10 == 1 else ("bacterial",) for n, ill in enumerate(truth)]
    found = {r["group"]: r for r in subgroups(truth, probability, 0.5, np.arange(400), {"findings": findings}, FEW)}
    viral = np.array([of_image == ("viral",) for of_image in findings])
    against = metrics(truth[viral | (truth == 0)], probability[viral | (truth == 0)], 0.5)
    assert found["viral"]["roc_auc"] == against["roc_auc"] and found["viral"]["auc_against_all"]
    assert (found["viral"]["specificity"], found[NONE]["recall"]) == (None, None)
    assert (found["viral"]["small"], found["bacterial"]["small"]) == (True, False)


def test_many_images_of_few_patients_are_a_small_group():
    truth, probability, _ = scored()
    (found,) = subgroups(truth, probability, 0.5, np.arange(400) // 20, {"source": [("one",)] * 400}, FEW)
    assert (found["n"], found["patients"], found["small"]) == (400, 20, True)


def test_an_image_counts_in_each_of_its_findings():
    truth, probability, _ = scored(8)
    values = [("a", "b"), ("a",), ("b",), ()] * 2
    found = subgroups(truth, probability, 0.5, np.arange(8), {"findings": values}, FEW)
    assert {record["group"]: record["n"] for record in found} == {"a": 4, "b": 4, NONE: 2}


def test_many_numbers_become_quarters_and_many_names_the_largest():
    truth, probability, _ = scored()
    ages = [(str(n // 4),) if n else () for n in range(400)]
    found = subgroups(truth, probability, 0.5, np.arange(400), {"age": ages}, FEW)
    quarters = ["0 to 25", "over 25 to 50", "over 50 to 74", "over 74 to 99"]
    assert sorted(record["group"] for record in found) == [NONE, *quarters]
    assert sum(record["n"] for record in found) == 400
    dates = [(str(20150101 + n // 4),) for n in range(400)]
    found = subgroups(truth, probability, 0.5, np.arange(400), {"date": dates}, FEW)
    assert sorted((record["group"], record["n"]) for record in found) == [
        ("20150101 to 20150125", 100),
        ("over 20150125 to 20150150", 100),
        ("over 20150150 to 20150175", 100),
        ("over 20150175 to 20150200", 100),
    ]
    names = [(f"device {min(n // 2, 30)}",) for n in range(400)]
    found = subgroups(truth, probability, 0.5, np.arange(400), {"device": names}, FEW)
    assert len(found) == MOST and found[0]["group"] == "device 30"
    assert OTHERS in {record["group"] for record in found} and sum(record["n"] for record in found) == 400
