"""A training in MLflow, with an SQLite file as its server."""

import sys
from pathlib import Path

import keras
import pytest

from pneumospark.errors import BundleError
from pneumospark.io import bundle
from pneumospark.io.files import Store
from pneumospark.io.tracking import check, log_training
from pneumospark.spec import ImageSpec

mlflow = pytest.importorskip("mlflow")
pytestmark = pytest.mark.tensorflow
FACTS = {
    "spec": ImageSpec(8, 8).to_dict(),
    "labels": ["normal", "pneumonia"],
    "threshold": {"value": 0.4, "rule": "youden"},
    "recipe": {"seed": 3, "network": "residual", "devices": []},
    "history": {"loss": [0.7, 0.5], "val_loss": [0.6, 0.55]},
    "validation": {"roc_auc": 0.9, "confusion": {"tp": 1}, "brier": None},
}


def test_recipe_figures_and_bundle_are_in_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    inputs = keras.Input((8, 8, 1))
    network = keras.Model(inputs, keras.layers.Dense(1, "sigmoid")(keras.layers.Flatten()(inputs)))
    uri, tracking = f"file://{tmp_path}/bundle", f"sqlite:///{tmp_path}/runs.db"
    model_id = bundle.write(uri, network, FACTS, Store())
    check(tracking)
    run_id = log_training(tracking, uri, Store())

    assert log_training(tracking, uri, Store()) == run_id  # as a job does that was killed after it had logged
    client = mlflow.MlflowClient(tracking)
    assert len(client.search_runs([client.get_run(run_id).info.experiment_id])) == 1
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED" and run.data.tags["model_id"] == model_id
    assert run.data.params == {"seed": "3", "network": '"residual"', "devices": "[]"}
    losses = [(metric.step, metric.value) for metric in client.get_metric_history(run_id, "loss")]
    assert losses == [(1, 0.7), (2, 0.5)]
    assert run.data.metrics["validation.roc_auc"] == 0.9
    copy = client.download_artifacts(run_id, "bundle", str(tmp_path))
    assert bundle.read(f"file://{copy}", Store()).model_id == model_id
    assert {"model_card.md", "history.png"} <= {path.name for path in Path(copy).iterdir()}


def test_what_cannot_be_logged_is_said_before_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BundleError, match=r"^--mlflow nonsense://x: "):
        check("nonsense://x")
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(BundleError, match=r"pip install 'pneumospark\[mlflow\]'"):
        check("sqlite:///x.db")


def test_a_deleted_experiment_is_said_before_the_training(tmp_path: Path) -> None:
    client = mlflow.MlflowClient(tracking := f"sqlite:///{tmp_path}/runs.db")
    made = client.create_experiment("pneumospark")
    check(tracking)
    client.delete_experiment(made)
    with pytest.raises(BundleError, match=rf"found one that was deleted; mlflow .* restore --experiment-id {made}$"):
        check(tracking)
    client.restore_experiment(made)
    check(tracking)
