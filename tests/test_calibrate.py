"""Calibration and threshold: known scalings are found, the order of images stays, rules do what they say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit, softmax
from sklearn.metrics import log_loss

from pneumospark.errors import ConfigError
from pneumospark.learn.calibrate import calibrate, choose_threshold, fit_scaling, with_scaling
from pneumospark.targets import TARGETS

TRUTH = np.array([0, 0, 0, 0, 1, 1, 1, 1])
PROBABILITY = np.array([0.05, 0.1, 0.3, 0.6, 0.5, 0.7, 0.8, 0.9])


class Untouchable:
    layers = property(lambda self: pytest.fail("looked at"))


@pytest.mark.parametrize("bias", [0.0, -1.5])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_a_known_temperature_and_bias_are_found(temperature: float, bias: float) -> None:
    rng = np.random.default_rng(0)
    honest = rng.uniform(0.02, 0.98, 20_000)
    truth = (rng.uniform(size=honest.size) < honest).astype(int)
    said = expit(logit(honest) * temperature - bias)  # too sure by that much, and off
    assert fit_scaling(truth, said) == pytest.approx((temperature, bias), rel=0.05, abs=0.05)


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=20), st.floats(0.05, 20), st.floats(-20, 20))
def test_calibration_keeps_the_order_and_the_range(values: list[float], temperature: float, bias: float) -> None:
    probability = np.sort(np.array(values))
    calibrated = with_scaling(probability, temperature, bias)
    assert (np.diff(calibrated) >= 0).all()
    assert ((calibrated >= 0) & (calibrated <= 1)).all()
    np.testing.assert_allclose(with_scaling(probability, 1.0), np.clip(probability, 1e-6, 1 - 1e-6), atol=1e-9)


def test_without_a_bias_the_best_temperature_alone_is_found() -> None:
    honest = np.random.default_rng(0).uniform(0.02, 0.98, 20_000)
    truth = (np.random.default_rng(1).uniform(size=honest.size) < honest).astype(int)
    said = expit(logit(honest) * 3 + 1)
    temperature, bias = fit_scaling(truth, said, biased=False)
    losses = [log_loss(truth, with_scaling(said, at)) for at in (temperature, temperature * 1.05, temperature / 1.05)]
    assert bias == 0 and losses[0] == min(losses)


def test_a_network_that_is_not_calibrated_stays_as_it_is() -> None:
    assert calibrate(Untouchable(), TRUTH, PROBABILITY, way="none") == {"method": "none"}


SEPARATE = (np.repeat([0, 1], 20), np.linspace([0.3, 0.55], [0.45, 0.7], 20).T.ravel())


@pytest.mark.parametrize("way", ["platt", "temperature"])
@pytest.mark.parametrize("name", ["pneumonia", "kind", "findings"])
@pytest.mark.parametrize("spread", [1, 8, -1])
def test_where_a_bound_is_hit_nothing_is_scaled_and_the_facts_say_why(
    way: str, name: str, spread: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Classes without an overlap, of a network in doubt (1) and of a sure one (8), or the wrong way round (-1)."""
    target = TARGETS[name]
    k = len(target.outputs)
    truth, said = SEPARATE[0], expit(spread * logit(SEPARATE[1]))
    if name == "kind":
        truth = np.eye(k, dtype=int)[np.arange(60) % k]
        said = softmax(spread * truth, axis=1)
    elif name == "findings":
        truth, said = np.tile(truth[:, np.newaxis], k), np.tile(said[:, np.newaxis], k)
    found = calibrate(Untouchable(), truth, said, target, way)
    assert found == {"method": "none", "reason": found["reason"]}
    assert "told apart without error" in found["reason"] and found["reason"] in caplog.text


def test_findings_without_a_best_scaling_stay_as_they_are_and_the_others_do_not() -> None:
    class Network:
        """One layer of k outputs."""

        def __init__(self, k: int) -> None:
            self.layers, self.weights = [self], [np.eye(k), np.zeros(k)]

        def get_weights(self) -> list[np.ndarray]:
            return self.weights

        def set_weights(self, weights: list[np.ndarray]) -> None:
            self.weights = weights

    target = TARGETS["findings"]
    k = len(target.outputs)
    truth, said = (np.tile(values[:, np.newaxis], k) for values in SEPARATE)
    said[[0, 39], 1:] = said[[39, 0], 1:]  # all but the first have an error of each kind
    found = calibrate(network := Network(k), truth, said, target)
    assert found["outputs"][target.outputs[0]] == {"temperature": 1.0, "bias": 0.0}
    assert found["reason"].startswith(f"{target.outputs[0]} as it was: ")
    diagonal = np.diag(network.weights[0])
    assert diagonal[0] == 1 and (diagonal[1:] != 1).all()


def test_one_class_alone_is_left_as_it_is() -> None:
    assert fit_scaling(np.ones(3, int), np.array([0.2, 0.5, 0.9])) == (1.0, 0.0)
    assert choose_threshold(np.ones(3, int), np.array([0.2, 0.5, 0.9]), "youden") == 0.5


@pytest.mark.parametrize(
    ("rule", "low", "high"),
    [
        ("0.5", 0.5, 0.5),
        ("youden", 0.6, 0.7),  # all 4 normals, 3 of 4 pneumonias
        ("sensitivity=0.75", 0.6, 0.7),
        ("sensitivity=0.99", 0.3, 0.5),
    ],
)
def test_a_rule_chooses_its_threshold(rule: str, low: float, high: float) -> None:
    assert low <= choose_threshold(TRUTH, PROBABILITY, rule) <= high


@settings(deadline=None)
@given(st.data(), st.floats(0.05, 0.95))
def test_a_target_sensitivity_is_reached(data: st.DataObject, target: float) -> None:
    probability = np.array(data.draw(st.lists(st.floats(0.01, 0.99), min_size=4, max_size=30)))
    truth = np.arange(len(probability)) % 2
    threshold = choose_threshold(truth, probability, f"sensitivity={target}")
    assert (probability[truth == 1] >= threshold).mean() >= target


@settings(deadline=None)
@given(st.data(), st.integers(1, 9), st.integers(1, 9))
def test_no_threshold_costs_less(data: st.DataObject, missed: int, alarm: int) -> None:
    probability = np.array(data.draw(st.lists(st.floats(0.01, 0.99), min_size=4, max_size=30)))
    truth = np.arange(len(probability)) % 2

    def cost(threshold: float) -> int:
        called = probability >= threshold
        return int(missed * np.sum((truth == 1) & ~called) + alarm * np.sum((truth == 0) & called))

    chosen = choose_threshold(truth, probability, f"costs={missed}:{alarm}")
    assert cost(chosen) == min(map(cost, [*probability, 1.0]))


@pytest.mark.parametrize(
    "rule",
    [
        "best",
        "0",
        "1",
        "1.5",
        "sensitivity",
        "sensitivity=",
        "sensitivity=2",
        "youden=1",
        "costs",
        "costs=5",
        "costs=1:-1",
    ],
)
def test_another_rule_is_an_error(rule: str) -> None:
    known = r"train.threshold: expected a number in \(0, 1\), youden, sensitivity=0.95 or costs=5:1, got"
    with pytest.raises(ConfigError, match=known):
        choose_threshold(TRUTH, PROBABILITY, rule)


@pytest.mark.tensorflow
def test_a_calibrated_network_gives_calibrated_figures() -> None:
    import keras

    inputs = keras.Input((1,))
    network = keras.Model(inputs, keras.layers.Dense(1, activation="sigmoid")(inputs))
    network.layers[-1].set_weights([np.array([[4.0]]), np.array([0.5])])
    x = np.random.default_rng(0).normal(size=(500, 1)).astype(np.float32)
    truth = (np.random.default_rng(1).uniform(size=500) < expit(x[:, 0])).astype(int)
    before = np.asarray(network(x))[:, 0]
    found = calibrate(network, truth, before)
    temperature, bias = found["temperature"], found["bias"]
    assert temperature > 2 and bias < -0.1
    inside = np.abs(logit(before.astype(float))) < 10  # further out the network is exact and the formula is cut off
    after = np.asarray(network(x))[:, 0]
    np.testing.assert_allclose(after[inside], with_scaling(before, temperature, bias)[inside], atol=1e-4)
