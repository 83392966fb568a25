"""Bundles by way of an MLflow registry in an SQLite file: registered, promoted, rolled back, tampered with."""

import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import keras
import pytest
from conftest import Tables, Way, rows

from pneumospark.errors import BundleError
from pneumospark.io import bundle
from pneumospark.io.files import Store
from pneumospark.io.registry import bundle_uri, register
from pneumospark.spec import ImageSpec

mlflow = pytest.importorskip("mlflow")
pytestmark = pytest.mark.tensorflow
FACTS = {
    "spec": ImageSpec(8, 8).to_dict(),
    "labels": ["normal", "pneumonia"],
    "threshold": {"value": 0.4, "rule": "youden"},
    "recipe": {"seed": 0},
}


@pytest.fixture(autouse=True)
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> "mlflow.MlflowClient":
    monkeypatch.chdir(tmp_path)  # artifacts of an SQLite registry lie in the working directory
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.delenv("MLFLOW_REGISTRY_URI", raising=False)
    return mlflow.MlflowClient()


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """A bundle of the smallest network there is."""
    inputs = keras.Input((8, 8, 1))
    network = keras.Model(inputs, keras.layers.Dense(1, "sigmoid")(keras.layers.Flatten()(inputs)))
    bundle.write(f"file://{tmp_path / 'bundle'}", network, FACTS, Store())
    return tmp_path / "bundle"


def test_alias_and_version_lead_to_the_bundle_and_back(whole: Path, client: "mlflow.MlflowClient") -> None:
    expected = bundle.read(f"file://{whole}", Store()).model_id
    first = register(str(whole), "pneumonia", "champion", Store())
    second = register(str(whole), "pneumonia", "challenger", Store())
    assert (first, second) == ("models:/pneumonia/1", "models:/pneumonia/2")
    for uri in (first, second, "models:/pneumonia@champion", "models:/pneumonia@challenger"):
        assert bundle.read(bundle_uri(uri), Store()).model_id == expected
    client.set_registered_model_alias("pneumonia", "champion", "2")  # promoted, and rolled back
    assert client.get_model_version_by_alias("pneumonia", "champion").version == 2
    client.set_registered_model_alias("pneumonia", "champion", "1")
    assert client.get_model_version_by_alias("pneumonia", "champion").tags["model_id"] == expected


@pytest.mark.spark
def test_score_takes_the_champion_and_says_which_it_was(
    way: Way, tables: Tables, client: "mlflow.MlflowClient", tmp_path: Path
) -> None:
    """Promoted and rolled back between two nights: each row names the bundle that was the champion then."""
    facts = json.loads((way.tables.bundle / "bundle.json").read_text())
    network = keras.models.load_model(way.tables.bundle / "model.keras", compile=False)
    network.layers[-1].bias.assign(network.layers[-1].bias + 1.0)
    bundle.write(f"file://{tmp_path / 'second'}", network, {name: facts[name] for name in FACTS}, Store())
    ids = [bundle.read(f"file://{path}", Store()).model_id for path in (way.tables.bundle, tmp_path / "second")]
    register(str(way.tables.bundle), "pneumonia", "champion", Store())
    register(str(tmp_path / "second"), "pneumonia", "champion", Store())
    files = len(rows(way.tables.predictions))
    for version, expected in (("2", [0, files]), ("1", [files, files]), ("2", [files, files])):
        client.set_registered_model_alias("pneumonia", "champion", version)
        summary = tables.score_from("--source", way.corpus, "--bundle", "models:/pneumonia@champion")
        assert summary["model_id"] == ids[int(version) - 1]
        scored = Counter(row["model_id"] for row in rows(tables.predictions))
        assert [scored[name] for name in ids] == expected
    assert summary["images"] == 0


def test_a_bundle_changed_in_the_registry_is_refused(whole: Path, client: "mlflow.MlflowClient") -> None:
    register(str(whole), "pneumonia", "champion", Store())
    source = Path(client.get_model_version_by_alias("pneumonia", "champion").source.removeprefix("file://"))
    facts = json.loads((source / "bundle.json").read_text())
    facts["threshold"]["value"] += 0.1
    (source / "bundle.json").write_text(json.dumps(facts))
    with pytest.raises(BundleError, match="changed after it was written"):
        bundle.read(bundle_uri("models:/pneumonia@champion"), Store())


def test_a_changed_bundle_is_not_registered(whole: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(whole, tmp_path / "copy"))
    (copy / "model.keras").write_bytes(b"something else")
    with pytest.raises(BundleError, match="changed after it was written"):
        register(str(copy), "pneumonia", None, Store())


def test_what_the_registry_does_not_know_is_one_clear_line(whole: Path) -> None:
    register(str(whole), "pneumonia", None, Store())
    for uri in ("models:/pneumonia@champion", "models:/pneumonia/7", "models:/other/1"):
        with pytest.raises(BundleError, match=f"^{uri}: not to be had from the registry sqlite:///") as caught:
            bundle_uri(uri)
        assert "\n" not in str(caught.value)
    for uri in ("models:/pneumonia", "models:pneumonia/1", "models:/a/b/c"):
        with pytest.raises(BundleError, match="expected models:/NAME@ALIAS or models:/NAME/VERSION"):
            bundle_uri(uri)


def test_without_mlflow_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(BundleError, match=r"pip install 'pneumospark\[mlflow\]'"):
        bundle_uri("models:/pneumonia/1")


def test_mlflow_is_told_to_keep_quiet_before_it_is_imported() -> None:
    ask = (
        "import os; from pneumospark.io import registry; registry.mlflow_and_client('models:/a/1'); "
        "print(os.environ['MLFLOW_DISABLE_TELEMETRY'], os.environ['DO_NOT_TRACK'])"
    )
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["true", "true"]
