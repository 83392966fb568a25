"""The networks: the published one layer by layer, and what becomes of any model as a backbone."""

from pathlib import Path

import keras
import numpy as np
import pytest
from scipy.special import logit

from pneumospark.errors import ConfigError
from pneumospark.learn import cnn, network

pytestmark = pytest.mark.tensorflow


def sides(model: keras.Model, kind: type) -> list[int]:
    return [layer.output.shape[1] for layer in model.layers if isinstance(layer, kind)]


def test_the_published_network_is_the_published_one() -> None:
    """Sizes, filters and counts as the paper gives them: 498, 249, ..., 13 x 13 x 64 = 10,816; first layer 320."""
    model = cnn.published((500, 500, 1))
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    assert sides(model, keras.layers.Conv2D) == [498, 247, 121, 58, 27]
    assert sides(model, keras.layers.MaxPooling2D) == [249, 123, 60, 29, 13]
    assert [layer.filters for layer in convolutions] == [32, 32, 32, 64, 64]
    assert convolutions[0].count_params() == 320
    flat = next(layer for layer in model.layers if isinstance(layer, keras.layers.Flatten))
    assert flat.output.shape == (None, 10_816)
    dense = [layer for layer in model.layers if isinstance(layer, keras.layers.Dense)]
    assert [layer.units for layer in dense] == [128, 64, 1]
    assert dense[-1].activation is keras.activations.sigmoid
    assert model.count_params() == 320 + 9_248 + 9_248 + 18_496 + 36_928 + 1_384_576 + 8_256 + 65


def test_the_published_network_scales_to_0_to_1() -> None:
    scaling = cnn.published((500, 500, 1)).layers[1]
    assert np.asarray(scaling(np.array([[0.0, 255.0]]))).tolist() == [[0, 1]]


def test_the_published_network_needs_94_pixels() -> None:
    cnn.published((94, 94, 1))
    with pytest.raises(ConfigError, match="expected images of at least 94 x 94, got 93 x 200"):
        cnn.published((93, 200, 1))


def test_the_published_network_has_options_and_none_by_default() -> None:
    options = cnn.Options(dropout=0.5, batch_normalisation=True, l1=1e-5, l2=1e-4, mean_normalised=True)
    plain, changed = cnn.published((94, 94, 1)), cnn.published((94, 94, 1), options)

    def count(model: keras.Model, kind: type) -> int:
        return sum(isinstance(layer, kind) for layer in model.layers)

    kinds = (keras.layers.Dropout, keras.layers.BatchNormalization)
    assert [count(plain, kind) for kind in kinds] == [0, 0] and not plain.losses
    assert [count(changed, kind) for kind in kinds] == [2, 5] and len(changed.losses) == 7  # but for the output
    pixels = np.random.default_rng(0).integers(0, 200, (2, 94, 94, 1)).astype(np.float32)
    np.testing.assert_allclose(changed(pixels), changed(pixels + 55), atol=1e-5)  # brightness alone says nothing
    assert not np.allclose(plain(pixels), plain(pixels + 55), atol=1e-5)


def test_a_bottleneck_block_is_one_of_the_second_version() -> None:
    """He et al. 2016, figure 4e: normalisation and ReLU before each of 1x1, 3x3 and 1x1, and nothing after the sum."""
    model = cnn.residual_v2((48, 48, 1))
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    sums = [layer for layer in model.layers if isinstance(layer, keras.layers.Add)]
    assert len(sums) == 8 and len(convolutions) == 1 + 8 * 3 + 4  # 25 on the way, and a projection in each stage

    def before(layer: keras.layers.Layer, steps: int = 1) -> keras.layers.Layer:
        for _ in range(steps):
            layer = layer.input._keras_history.operation
        return layer

    for block in sums:
        third = block.input[1]._keras_history.operation
        assert [before(third, steps).kernel_size[0] for steps in (0, 3, 6)] == [1, 3, 1]
        assert all(isinstance(before(third, steps), keras.layers.Activation) for steps in (1, 4, 7))
        assert all(isinstance(before(third, steps), keras.layers.BatchNormalization) for steps in (2, 5, 8))
        followers = [node.operation for node in block._outbound_nodes]
        assert {type(layer) for layer in followers} <= {keras.layers.BatchNormalization, keras.layers.Add}


@pytest.mark.parametrize(
    ("name", "shape", "millions"),
    [("residual", (224, 224, 1), 1.0), ("residual", (48, 48, 3), 1.0), ("residual-v2", (96, 128, 1), 3.5)],
)
def test_a_residual_network_takes_any_size(name: str, shape: tuple[int, int, int], millions: float) -> None:
    model = cnn.NETWORKS[name](shape, cnn.PLAIN)
    assert model.output_shape == (None, 1)
    assert round(model.count_params() / 1e6, 1) == millions  # as its docstring says
    probability = np.asarray(model(np.zeros((2, *shape), np.uint8)))
    assert ((probability > 0) & (probability < 1)).all()


def test_a_backbone_of_colour_gets_grey_three_times() -> None:
    inputs = keras.Input((16, 16, 3))
    backbone = keras.Model(inputs, keras.layers.Conv2D(5, 3)(inputs))
    pixels = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 1)).astype(np.uint8)
    features = network.feature_extractor(backbone, (16, 16, 1))(pixels)
    expected = np.asarray(backbone(np.repeat(pixels, 3, axis=-1))).mean(axis=(1, 2))
    np.testing.assert_allclose(features, expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [((32, 32, 1), "expects images of .*: set image.height"), ((16, 16, 4), "expects 4 channels, .* have 1")],
)
def test_a_backbone_of_another_size_is_refused(wanted: tuple[int, ...], message: str) -> None:
    inputs = keras.Input(wanted)
    with pytest.raises(ConfigError, match=message):
        network.feature_extractor(keras.Model(inputs, keras.layers.Flatten()(inputs)), (16, 16, 1))


def test_a_bundles_network_loses_its_head() -> None:
    model = cnn.residual((48, 48, 1))
    extractor = network.feature_extractor(model, (48, 48, 1))
    assert extractor.output_shape == (None, 128)


def test_a_network_of_features_loses_its_head_too() -> None:
    """What a bundle trained on features holds: as a backbone its last layer, too, would be one number, no features."""
    whole = network.composed(network.feature_extractor(cnn.residual((48, 48, 1)), (48, 48, 1)), network.head((128,)))
    features = network.feature_extractor(whole, (48, 48, 1))
    assert features.output_shape == (None, 64)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 48, 48, 1)).astype(np.uint8)
    last = whole.layers[-1].layers[-1]
    np.testing.assert_allclose(last(features(pixels)), whole(pixels), atol=1e-6)


def test_backbone_and_head_are_one_model_that_survives_saving(tmp_path: Path) -> None:
    extractor = network.feature_extractor(cnn.residual((48, 48, 1)), (48, 48, 1))
    head = network.head((128,))
    whole = network.composed(extractor, head)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 48, 48, 1)).astype(np.uint8)
    np.testing.assert_allclose(whole(pixels), head(extractor(pixels)), atol=1e-6)
    whole.save(tmp_path / "whole.keras")
    again = keras.models.load_model(tmp_path / "whole.keras", safe_mode=True)
    np.testing.assert_allclose(again(pixels), whole(pixels), atol=1e-6)


def backbone() -> keras.Model:
    inputs = keras.Input((48, 48, 3))
    x = keras.layers.Rescaling(1 / 255)(inputs)
    for filters in (4, 8):
        x = keras.layers.Conv2D(filters, 3, strides=2, use_bias=False)(x)
        x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    return keras.Model(inputs, x, name="backbone")


def test_a_finetuned_network_as_a_backbone_is_frozen_by_its_layers_and_not_as_one() -> None:
    inner = network.finetuned(backbone(), (48, 48, 1), frozen=0.5)
    built = network.finetuned(inner, (48, 48, 1), frozen=0.5)
    at_rest = [layer.trainable for layer in layers_within(built) if layer.weights]
    normal = [layer for layer in layers_within(built) if isinstance(layer, keras.layers.BatchNormalization)]
    assert not at_rest[0] and at_rest[-1] and normal and not any(layer.trainable for layer in normal)
    assert len(built.trainable_weights) == len(network.finetuned(backbone(), (48, 48, 1), 0.5).trainable_weights)


def layers_within(model: keras.Model) -> list[keras.layers.Layer]:
    """Not models, in order."""
    parts = ([*layers_within(layer)] if isinstance(layer, keras.Model) else [layer] for layer in model.layers)
    return [layer for part in parts for layer in part]


def test_a_finetuned_backbone_learns_above_its_frozen_part_and_keeps_its_normalisation() -> None:
    built = network.finetuned(backbone(), (48, 48, 1), frozen=0.5)
    kernels = [layer for layer in built._flatten_layers() if isinstance(layer, keras.layers.Conv2D)]
    norms = [layer for layer in built._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]
    kernels.sort(key=lambda layer: layer.filters)  # the first one has 4, the second 8
    before = [layer.get_weights() for layer in (*kernels, *norms)]
    built.compile(keras.optimizers.Adam(0.1), "binary_crossentropy")
    pixels = np.random.default_rng(0).integers(0, 256, (8, 48, 48, 1)).astype(np.float32)
    built.fit(pixels, np.arange(8) % 2, verbose=0)
    changed = [
        any(not np.array_equal(one, two) for one, two in zip(old, layer.get_weights(), strict=True))
        for old, layer in zip(before, (*kernels, *norms), strict=True)
    ]
    assert changed == [False, True, False, False]
    assert built.layers[-1].activation is keras.activations.sigmoid  # what calibration is folded into


def test_all_of_a_finetuned_backbone_can_be_kept_at_rest_and_let_go() -> None:
    built = network.finetuned(backbone(), (48, 48, 1), frozen=0.0)
    learning = len(built.trainable_variables)
    network.freeze(built, 1.0)
    assert len(built.trainable_variables) == 2  # kernel and bias of the head
    network.freeze(built, 0.0)
    assert len(built.trainable_variables) == learning == 4


def test_averaged_networks_give_the_mean_of_their_logits() -> None:
    extractor = network.feature_extractor(backbone(), (48, 48, 1))
    members = [cnn.residual((48, 48, 1)), network.composed(extractor, network.head((8,)))]
    pixels = np.random.default_rng(0).integers(0, 256, (3, 48, 48, 1)).astype(np.float32)
    logits = [logit(np.asarray(member(pixels))) for member in members]
    whole = network.averaged(members, (48, 48, 1))
    np.testing.assert_allclose(logit(np.asarray(whole(pixels))), np.mean(logits, axis=0), atol=1e-4)
    assert whole.layers[-1].activation is keras.activations.sigmoid
