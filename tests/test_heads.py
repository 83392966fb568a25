"""Classical heads: what Keras gives is what scikit-learn gives, also after saving, and nothing of it is a pickle."""

import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from pneumospark.learn import heads

pytestmark = pytest.mark.tensorflow
SKLEARN: dict[str, Any] = {
    "logistic": lambda: make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000, random_state=0)),
    "svm": lambda: make_pipeline(StandardScaler(), SVC(random_state=0)),
    "boosting": lambda: GradientBoostingClassifier(max_features="sqrt", random_state=0),
}


def features(seed: int, rows: int, columns: int, coarse: bool) -> tuple[np.ndarray, np.ndarray]:
    """Features as a ReLU gives them, many zeros and one column of nothing else; coarse ones lie on thresholds."""
    random = np.random.default_rng(seed)
    x = np.maximum(random.normal(0.3, 1, (rows, columns)), 0) * random.uniform(0.1, 30, columns)
    x = np.round(x) if coarse else x
    x[:, -1] = 0
    truth = (np.arange(rows) % 2 if columns == 1 else x[:, 0] + random.normal(size=rows) > np.median(x[:, 0])).astype(
        int
    )
    truth[:2] = 0, 1
    return x.astype(np.float32), truth


@pytest.mark.parametrize("name", sorted(heads.HEADS))
@settings(max_examples=6, deadline=None)
@given(st.integers(0, 10_000), st.integers(20, 80), st.integers(2, 30), st.booleans())
def test_a_head_gives_what_scikit_learn_gives(name: str, seed: int, rows: int, columns: int, coarse: bool) -> None:
    x, truth = features(seed, rows, columns, coarse)
    new, _ = features(seed + 1, 50, columns, coarse)
    reference = SKLEARN[name]().fit(x.astype(np.float64), truth)
    built = heads.HEADS[name](x, truth, None, 0)
    for some in (x, new):
        expected = expit(reference.decision_function(some.astype(np.float64)))
        np.testing.assert_allclose(np.asarray(built(some))[:, 0], expected, atol=2e-5)


@pytest.mark.parametrize("name", sorted(heads.HEADS))
def test_a_head_is_saved_without_pickle_and_loads_as_it_was(name: str, tmp_path: Path) -> None:
    x, truth = features(0, 60, 8, False)
    built = heads.HEADS[name](x, truth, None, 0)
    built.save(tmp_path / "head.keras")
    loaded = keras.models.load_model(tmp_path / "head.keras", compile=False, safe_mode=True)
    np.testing.assert_allclose(np.asarray(loaded(x)), np.asarray(built(x)), atol=1e-6)
    assert sorted(zipfile.ZipFile(tmp_path / "head.keras").namelist()) == [
        "config.json",
        "metadata.json",
        "model.weights.h5",
    ]


@pytest.mark.parametrize("name", sorted(heads.HEADS))
def test_weights_of_the_rarer_class_raise_its_probability(name: str) -> None:
    x, truth = features(3, 80, 5, False)
    heavy = np.where(truth == 1, 4.0, 1.0)
    plain, weighted = (np.asarray(heads.HEADS[name](x, truth, weights, 0)(x)).mean() for weights in (None, heavy))
    assert weighted > plain


def test_a_threshold_between_two_floats_divides_them() -> None:
    low, high = np.float32(1), np.nextafter(np.float32(1), np.float32(2))
    between = (float(low) + float(high)) / 2
    rounded = heads._rounded_down(np.array([between, float(high), 0.1]))
    assert low <= rounded[0] < high and rounded[1] == high and float(rounded[2]) <= 0.1
