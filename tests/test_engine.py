"""Engines: both give the network's probabilities, a form that differs is refused, and `auto` measures."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from pyspark.sql import SparkSession

from pneumospark.errors import BundleError
from pneumospark.io import bundle, engine, engines
from pneumospark.io.files import Store
from pneumospark.io.session import ship
from pneumospark.spec import ImageSpec

pytestmark = pytest.mark.tensorflow
SPEC = ImageSpec(32, 24)
PIXELS = np.random.default_rng(0).integers(0, 256, (50, *SPEC.shape), dtype=np.uint8)
FACTS: dict[str, Any] = {"spec": SPEC.to_dict(), "labels": ["normal", "pneumonia"], "threshold": {"value": 0.5}}


@pytest.fixture(scope="module")
def network() -> keras.Model:
    keras.utils.set_random_seed(0)
    inputs = keras.Input(SPEC.shape)
    x = keras.layers.Conv2D(8, 3, activation="relu")(keras.layers.Rescaling(1 / 255)(inputs))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.BatchNormalization()(x))
    return keras.Model(inputs, keras.layers.Dense(1, activation="sigmoid")(x))


@pytest.fixture(scope="module")
def form(network) -> engines.OpenvinoForm:
    return engines.openvino_form(network, PIXELS)


@pytest.fixture
def written(network, form, tmp_path: Path) -> bundle.Bundle:
    bundle.write(f"file://{tmp_path}/bundle", network, FACTS, Store(), form)
    return bundle.read(f"file://{tmp_path}/bundle", Store())


def test_both_engines_give_the_networks_probabilities(network, written: bundle.Bundle) -> None:
    expected = np.asarray(network(PIXELS, training=False))
    assert expected.std() > 1e-4
    model = bundle.load_model(written.folder / bundle.MODEL)
    for forward in (engines.tensorflow_forward(model), engines.openvino_forward(written.folder, 1)):
        np.testing.assert_allclose(forward(PIXELS), expected, atol=1e-5)
        np.testing.assert_allclose(forward(PIXELS[:3]), expected[:3], atol=1e-5)  # the last batch of a task is short


def test_the_form_says_how_it_was_compared(form: engines.OpenvinoForm) -> None:
    assert form.facts["images"] == 50
    assert 0 <= form.facts["largest_difference"] < 1e-5
    assert set(form.facts["files"]) == set(form.files) == set(engines.OPENVINO_FILES)


def test_a_form_that_differs_on_one_image_is_refused(network, monkeypatch: pytest.MonkeyPatch) -> None:
    exact = engines.tensorflow_forward(network)

    def other(folder: Path, threads: int = 0) -> engines.Forward:
        return lambda pixels: exact(pixels) + 2e-3 * (pixels == PIXELS[49]).all(axis=(1, 2, 3))[:, np.newaxis]

    monkeypatch.setattr(engines, "openvino_forward", other)
    with pytest.raises(ValueError, match=r"expected the outputs of TensorFlow to 0\.001, found 0\.002"):
        engines.openvino_form(network, PIXELS)


def test_outputs_that_are_no_numbers_are_refused(network, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "openvino_forward", lambda folder: lambda pixels: np.full((len(pixels), 1), np.nan))
    with pytest.raises(ValueError, match="found nan"):
        engines.openvino_form(network, PIXELS)


@pytest.mark.parametrize("file", engines.OPENVINO_FILES)
def test_a_form_that_was_changed_is_refused(written: bundle.Bundle, tmp_path: Path, file: str) -> None:
    content = bytearray((tmp_path / "bundle" / file).read_bytes())
    content[-9] ^= 1
    (tmp_path / "bundle" / file).write_bytes(content)
    with pytest.raises(BundleError, match=f"{file}: expected the file that was written with the model"):
        bundle.read(f"file://{tmp_path}/bundle", Store())


def test_nothing_reports_that_openvino_was_used(form: engines.OpenvinoForm) -> None:
    import openvino.tools.ovc.telemetry_utils as used

    assert used.tm.__name__.endswith("telemetry_stub")


@pytest.mark.spark
def test_the_engine_is_chosen(written: bundle.Bundle, network, spark: SparkSession, tmp_path: Path) -> None:
    context, few, many = spark.sparkContext, engine.MEASURED_FROM - 1, engine.MEASURED_FROM
    bundle.write(f"file://{tmp_path}/without", network, FACTS, Store())
    without = bundle.read(f"file://{tmp_path}/without", Store())
    ship(spark, written.folder, "bundle-engine")
    assert engine.choose(context, "tensorflow", written, "bundle-engine", few) == "tensorflow"
    assert engine.choose(context, "openvino", written, "bundle-engine", many) == "openvino"
    assert engine.choose(context, "auto", written, "bundle-engine", few) == "openvino"
    assert engine.choose(context, "auto", without, "nowhere", many) == "tensorflow"
    with pytest.raises(BundleError, match="--engine openvino: this bundle was made without it"):
        engine.choose(context, "openvino", without, "nowhere", few)
    rates = engine.measured(context, "bundle-engine", SPEC.shape)
    assert set(rates) == {"tensorflow", "openvino"}
    assert min(rates.values()) > 100


@pytest.mark.spark
def test_executors_predict_what_the_network_does(written: bundle.Bundle, network, spark: SparkSession) -> None:
    ship(spark, written.folder, "bundle-predict")
    pixels, expected = PIXELS, np.asarray(network(PIXELS, training=False))
    for name in ("tensorflow", "openvino"):
        task = spark.sparkContext.parallelize([0], 1).mapPartitions(
            lambda _, name=name: [engine.make_predict("bundle-predict", name)(pixels).tolist()]
        )
        np.testing.assert_allclose(task.first(), expected, atol=1e-5)
