"""Grad-CAM: against a gradient worked by hand, and on every kind of network that a bundle can hold."""

import keras
import numpy as np
import pytest

from pneumospark.errors import BundleError
from pneumospark.learn import cnn, network
from pneumospark.learn.explain import grad_cam, last_map
from pneumospark.targets import TARGETS

pytestmark = pytest.mark.tensorflow


def two_maps(bias: float = 0.0) -> keras.Model:
    """A map of bright places that speaks for pneumonia with 2, one of dark places that speaks against it with 3."""
    inputs = keras.Input((6, 6, 1))
    maps = keras.layers.Conv2D(2, 1, activation="relu")(keras.layers.Rescaling(1 / 255)(inputs))
    outputs = keras.layers.Dense(1, activation="sigmoid")(keras.layers.GlobalAveragePooling2D()(maps))
    model = keras.Model(inputs, outputs)
    model.layers[2].set_weights([np.array([[[[1.0, -1.0]]]]), np.array([0.0, 1.0])])
    model.layers[-1].set_weights([np.array([[2.0], [-3.0]]), np.array([bias])])
    return model


@pytest.mark.parametrize("bias", [0.0, 200.0])
def test_the_map_is_the_weighted_sum_of_the_feature_maps(bias: float) -> None:
    """Also where the probability is 1 to the last bit, and so has no gradient."""
    pixels = np.random.default_rng(0).integers(0, 256, (3, 6, 6, 1)).astype(np.uint8)
    bright = pixels[..., 0] / 255
    expected = np.maximum(2 * bright - 3 * (1 - bright), 0)
    found = grad_cam(two_maps(bias), pixels)
    np.testing.assert_allclose(found, expected / expected.max(axis=(1, 2), keepdims=True), atol=1e-5)


@pytest.mark.parametrize("name", ["kind", "findings"])
def test_of_several_outputs_pneumonia_is_explained(name: str) -> None:
    """Bacterial, or the finding, looks as the one output of `two_maps` does; viral and the others say nothing of it."""
    target = TARGETS[name]
    model = two_maps()
    place = target.outputs.index("bacterial" if name == "kind" else "pneumonia")
    dense = keras.layers.Dense(len(target.outputs), activation=target.activation)
    several = keras.Model(model.input, dense(model.layers[-2].output))
    weights, bias = np.zeros((2, len(target.outputs))), np.full(len(target.outputs), -100.0)
    weights[:, place], bias[place] = [2.0, -3.0], 100.0
    dense.set_weights([weights, bias])
    pixels = np.random.default_rng(0).integers(0, 256, (3, 6, 6, 1)).astype(np.uint8)
    np.testing.assert_allclose(grad_cam(several, pixels, target), grad_cam(model, pixels), atol=1e-5)
    with pytest.raises(BundleError, match=r"expected a network with the outputs pneumonia, found"):
        grad_cam(several, pixels)


def test_of_networks_that_are_averaged_the_last_one_is_explained() -> None:
    both = network.averaged([two_maps(-200.0), two_maps(200.0)], (6, 6, 1))
    pixels = np.random.default_rng(0).integers(0, 256, (3, 6, 6, 1)).astype(np.uint8)
    np.testing.assert_allclose(grad_cam(both, pixels), grad_cam(two_maps(), pixels), atol=1e-5)


def test_the_network_is_left_as_it_was() -> None:
    model = two_maps()
    pixels = np.full((1, 6, 6, 1), 200, np.uint8)
    before = np.asarray(model(pixels))
    grad_cam(model, pixels)
    assert np.array_equal(before, np.asarray(model(pixels)))
    assert model.layers[-1].activation is keras.activations.sigmoid


def test_no_evidence_is_a_black_map() -> None:
    assert not grad_cam(two_maps(), np.zeros((1, 6, 6, 1), np.uint8)).any()


def of_features(shape: tuple[int, int, int]) -> keras.Model:
    inputs = keras.Input((*shape[:2], 3))
    nested = keras.Sequential([keras.Input((*shape[:2], 3)), keras.layers.Conv2D(4, 3, strides=4)])
    extractor = network.feature_extractor(keras.Model(inputs, nested(inputs)), shape)
    return network.composed(extractor, network.head(extractor.output_shape[1:]))


def fine_tuned(shape: tuple[int, int, int]) -> keras.Model:
    inputs = keras.Input((*shape[:2], 3))
    maps = keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 3, strides=8, padding="same")(inputs))
    return network.finetuned(keras.Model(inputs, keras.layers.Activation("relu")(maps)), shape, frozen=0.5)


@pytest.mark.parametrize(
    ("build", "size"),
    [(fine_tuned, (16, 16)), (cnn.residual, (4, 4)), (cnn.published, (2, 2)), (of_features, (32, 32))],
)
def test_every_kind_of_network(build, size: tuple[int, int]) -> None:
    model = build((128, 128, 1))
    found = grad_cam(model, np.random.default_rng(0).integers(0, 256, (3, 128, 128, 1)).astype(np.uint8))
    assert found.shape == (3, *size) == (3, *last_map(model).output.shape[1:3])
    assert found.dtype == np.float32 and ((found >= 0) & (found <= 1)).all()


def test_no_feature_maps_no_map() -> None:
    flat = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(1)])
    with pytest.raises(BundleError, match=r"expected a network with feature maps, .* has none"):
        grad_cam(flat, np.zeros((1, 4, 4, 1), np.uint8))
    with pytest.raises(BundleError, match="expected a network with the outputs pneumonia, found 3"):
        grad_cam(keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Dense(3)]), np.zeros((1, 4, 4, 1), np.uint8))
