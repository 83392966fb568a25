"""Bundles: written once, verified at every load, refused when anything in them is not what was written."""

import json
import resource
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from pneumospark.errors import BundleError, ConfigError, SourceError
from pneumospark.io import backbones, bundle
from pneumospark.io.files import Store
from pneumospark.spec import ImageSpec

pytestmark = pytest.mark.tensorflow
SPEC = ImageSpec(8, 8)
STORE = Store()


def model(weight: float = 0.5) -> keras.Model:
    inputs = keras.Input(SPEC.shape)
    dense = keras.layers.Dense(1, activation="sigmoid", kernel_initializer=keras.initializers.Constant(weight))
    return keras.Model(inputs, dense(keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(inputs))))


def facts(**other: Any) -> dict[str, Any]:
    rule = {"value": 0.4, "rule": "youden"}
    return {"spec": SPEC.to_dict(), "labels": ["normal", "pneumonia"], "threshold": rule, "recipe": {"seed": 0}} | other


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return f"file://{tmp_path}/bundle"


def test_what_was_written_is_read(uri: str) -> None:
    written = model()
    model_id = bundle.write(uri, written, facts(), STORE)
    found = bundle.read(uri, STORE)
    assert (found.model_id, found.spec, found.threshold) == (model_id, SPEC, 0.4)
    assert found.labels == ("normal", "pneumonia")
    pixels = np.random.default_rng(0).integers(0, 256, (3, *SPEC.shape)).astype(np.uint8)
    loaded = bundle.load_model(found.folder / bundle.MODEL)
    np.testing.assert_allclose(loaded(pixels), written(pixels), atol=1e-6)


def test_table_and_curves_of_the_training_lie_beside_the_model_and_have_no_part_in_its_id(uri: str) -> None:
    history = {"loss": [0.7, 0.5, 0.4], "val_loss": [0.6, 0.55, 0.5], "learning_rate": [1e-3, 1e-3, 1e-4]}
    model_id = bundle.write(uri, model(), facts(history=history), STORE)
    folder = Path(uri.removeprefix("file://"))
    lines = (folder / "history.csv").read_text().splitlines()
    assert lines[0] == "epoch,loss,val_loss,learning_rate" and lines[3] == "3,0.4,0.5,0.0001"
    assert (folder / "history.png").read_bytes().startswith(b"\x89PNG")
    (folder / "history.png").unlink()
    assert bundle.read(uri, STORE).model_id == model_id


def test_a_bundle_is_never_overwritten(uri: str) -> None:
    bundle.write(uri, model(), facts(), STORE)
    with pytest.raises(BundleError, match="a bundle is there already and a bundle is never changed"):
        bundle.write(uri, model(0.1), facts(), STORE)


def test_the_id_depends_on_model_and_facts(tmp_path: Path) -> None:
    made = [(0.5, {}), (0.1, {}), (0.5, {"recipe": {"seed": 1}})]
    uris = [f"file://{tmp_path}/{number}" for number in range(3)]
    ids = {
        bundle.write(uri, model(weight), facts(**other), STORE) for uri, (weight, other) in zip(uris, made, strict=True)
    }
    assert len(ids) == 3


def test_a_changed_threshold_is_refused(uri: str, tmp_path: Path) -> None:
    bundle.write(uri, model(), facts(), STORE)
    file = tmp_path / "bundle" / bundle.FACTS
    file.write_text(file.read_text().replace("0.4", "0.9"))
    with pytest.raises(BundleError, match=r"expected the content of model \w{16}, found \w{16}: it was changed"):
        bundle.read(uri, STORE)


def test_another_model_in_its_place_is_refused(uri: str, tmp_path: Path) -> None:
    bundle.write(uri, model(), facts(), STORE)
    model(0.1).save(tmp_path / "bundle" / bundle.MODEL)
    with pytest.raises(BundleError, match="it was changed after it was written"):
        bundle.read(uri, STORE)


def test_a_bundle_that_was_killed_while_it_was_written_is_none(uri: str, tmp_path: Path) -> None:
    bundle.write(uri, model(), facts(), STORE)
    (tmp_path / "bundle" / bundle.FACTS).unlink()  # the last file to be written
    assert bundle.find(uri, STORE) is None
    with pytest.raises(BundleError, match=r"expected a bundle of model\.keras and bundle\.json"):
        bundle.read(uri, STORE)
    bundle.write(uri, model(), facts(), STORE)
    bundle.read(uri, STORE)


def test_facts_that_were_cut_off_are_no_bundle(uri: str, tmp_path: Path) -> None:
    bundle.write(uri, model(), facts(), STORE)
    file = tmp_path / "bundle" / bundle.FACTS
    file.write_text(file.read_text()[:50])
    assert bundle.find(uri, STORE) is None
    bundle.write(uri, model(), facts(), STORE)
    bundle.read(uri, STORE)


def test_a_bundle_of_another_way_to_pixels_is_refused(uri: str) -> None:
    other = SPEC.to_dict() | {"fingerprint": "0" * 16}
    bundle.write(uri, model(), facts(spec=other), STORE)
    with pytest.raises(ConfigError, match=f"expected fingerprint {SPEC.fingerprint()}.*got 0000000000000000"):
        bundle.read(uri, STORE)


def test_the_same_recipe_is_found_and_another_one_refused(uri: str) -> None:
    asked = {"recipe": {"seed": 0, "devices": ()}}
    assert bundle.trained_already(uri, asked, STORE) is None
    model_id = bundle.write(uri, model(), facts(**asked), STORE)
    assert bundle.trained_already(uri, asked, STORE) == model_id
    with pytest.raises(BundleError, match=r"a bundle is there whose recipe is .* asked for is .*'seed': 1"):
        bundle.trained_already(uri, {"recipe": {"seed": 1, "devices": ()}}, STORE)


def test_a_disk_that_fills_while_a_checkpoint_is_saved_leaves_the_last_one(uri: str) -> None:
    checkpoint = bundle.Checkpoint(uri, {"recipe": {"seed": 0}}, STORE)
    checkpoint.save(b"epoch 1" * 100)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))  # files cannot grow beyond: "File too large"
    try:
        with pytest.raises(SourceError, match=r"\.npz\.part: cannot be written"):
            checkpoint.save(b"epoch 2" * 100)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert checkpoint.saved() == b"epoch 1" * 100
    checkpoint.save(b"epoch 2" * 100)
    assert checkpoint.saved() == b"epoch 2" * 100
    checkpoint.remove()
    assert checkpoint.saved() is None


def test_members_must_have_learnt_from_the_same_rows(uri: str) -> None:
    def data(train: str, test: str = "9") -> dict[str, Any]:
        digests = {"train": train, "validation": "2", "test": test}
        return {"splits": {split: {"rows": 1, "digest": digest} for split, digest in digests.items()}}

    uris = [f"{uri}-0", f"{uri}-1"]
    for place, train in zip(uris, ("1", "5"), strict=True):
        bundle.write(place, model(), facts(data=data(train)), STORE)
    same, other = (bundle.read(place, STORE) for place in uris)
    bundle.check_members([same, same], SPEC, data("1", test="8"), uris)
    with pytest.raises(BundleError, match=r"bundle-1: expected .* rows, digests .*'1'.*, found .*'5'.*: train it anew"):
        bundle.check_members([same, other], SPEC, data("1"), uris)


def test_a_backbone_that_knows_other_rows_is_known(uri: str) -> None:
    def rows(train: str, test: str) -> dict[str, Any]:
        return {split: {"rows": 1, "digest": digest} for split, digest in (("train", train), ("test", test))}

    bundle.write(uri, model(), facts(data={"splits": rows("1", "9")}), STORE)
    found = backbones.find(uri, STORE)
    assert not found.knows_others(rows("1", "8"), "pneumonia")  # nothing has learnt from its test images
    assert found.knows_others(rows("2", "9"), "pneumonia") and found.knows_others(rows("1", "9"), "kind")


def test_features_tell_what_their_backbone_has_learnt_from(uri: str, tmp_path: Path) -> None:
    learnt = {split: {"digest": split} for split in ("train", "validation")}
    bundle.write(uri, model(), facts(data={"splits": learnt}), STORE)
    found, table = backbones.find(uri, STORE), f"file://{tmp_path}/features"
    version = found.features_id(SPEC)
    assert backbones.behind(table, version, STORE) is None
    backbones.write_backbone(table, found, model(), SPEC, STORE)
    kept = backbones.behind(table, version, STORE)
    assert kept and kept.name == uri and not kept.knows_others(learnt, "pneumonia")
    assert kept.knows_others(learnt | {"validation": {"digest": "another"}}, "pneumonia")


def test_loading_runs_no_code(tmp_path: Path) -> None:
    inputs = keras.Input((2,))
    keras.Model(inputs, keras.layers.Lambda(lambda x: x + 1)(inputs)).save(tmp_path / "lambda.keras")
    with pytest.raises(BundleError, match=r"lambda\.keras: expected a Keras model"):
        bundle.load_model(tmp_path / "lambda.keras")


def test_a_backbone_is_found_by_its_content(uri: str, tmp_path: Path) -> None:
    model_id = bundle.write(uri, model(), facts(), STORE)
    model().save(tmp_path / "some.keras")
    of_bundle = backbones.find(uri, STORE)
    of_file = backbones.find(str(tmp_path / "some.keras"), STORE)
    assert of_bundle.identity == model_id
    assert of_bundle.features_id(SPEC) != of_bundle.features_id(ImageSpec(16, 16))
    assert of_bundle.features_id(SPEC) != of_file.features_id(SPEC)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("/nowhere/model.keras", "--backbone /nowhere/model.keras: expected a .keras file or a bundle"),
        ("NoSuchNet", "--backbone NoSuchNet: expected a .keras file, a bundle, or a Keras application"),
    ],
)
def test_no_such_backbone(name: str, message: str) -> None:
    with pytest.raises(BundleError, match=message):
        backbones.find(name, STORE).load()


def test_an_application_whose_weights_cannot_be_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(**asked: Any) -> None:
        assert (asked["include_top"], asked["weights"]) == (False, "imagenet")
        raise Exception("URL fetch failure on https://...: no route")  # as keras.utils.get_file does

    offline.__module__ = keras.applications.ResNet50.__module__  # which has the application's preprocess_input
    monkeypatch.setattr(keras.applications, "ResNet50", offline)
    message = r"--backbone ResNet50: its weights could not be fetched \(URL fetch failure .*\)\. On a machine with a "
    with pytest.raises(BundleError, match=message):
        backbones.find("ResNet50", STORE).load()


def test_a_file_that_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "some.keras").write_text("no zip")
    with pytest.raises(BundleError, match=r"/some\.keras: expected a Keras model"):
        backbones.find(str(tmp_path / "some.keras"), STORE).load()


def test_the_backbone_of_features_is_kept_beside_them(tmp_path: Path) -> None:
    table, extractor, backbone = f"file://{tmp_path}/features", model(), backbones.Backbone("some", "abc", None)
    backbones.write_backbone(table, backbone, extractor, SPEC, STORE)
    pixels, version = np.zeros((2, *SPEC.shape), np.uint8), backbone.features_id(SPEC)
    np.testing.assert_allclose(backbones.read_backbone(table, version, STORE)(pixels), extractor(pixels), atol=1e-6)
    assert backbones.read_spec(table, version, STORE) == SPEC
    with pytest.raises(BundleError, match="/_backbone/xyz: expected the backbone that made the features"):
        backbones.read_backbone(table, "xyz", STORE)


def test_a_spec_travels_with_its_table(tmp_path: Path) -> None:
    table = f"file://{tmp_path}/prepared"
    backbones.write_spec(table, "abc", SPEC, STORE)
    assert backbones.read_spec(table, "abc", STORE) == SPEC
    assert json.loads((tmp_path / "prepared" / "_spec" / "abc.json").read_text())["fingerprint"] == SPEC.fingerprint()
    with pytest.raises(BundleError, match=r"expected _spec/xyz\.json, which extract writes"):
        backbones.read_spec(table, "xyz", STORE)
