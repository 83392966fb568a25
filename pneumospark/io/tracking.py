"""A finished training as a run of MLflow: the recipe, figures by epoch and at the end, the bundle with its card."""

import json
import time
from collections.abc import Iterator
from typing import Any

from pneumospark.errors import BundleError
from pneumospark.io import bundle
from pneumospark.io.files import Store
from pneumospark.io.registry import FOLDER, experiment, local_copy, mlflow_and_client

EXPERIMENT = "pneumospark"

AT_ONCE = 1000
"""Metrics in one call, at most: MLflow's own limit."""


def check(tracking: str) -> None:
    """Raise BundleError where MLflow is not installed, does not answer, or has put our experiment into its bin.

    Before a training of hours, not after it.
    """
    mlflow, client = mlflow_and_client(f"--mlflow {tracking}", tracking)
    try:
        found = client.get_experiment_by_name(EXPERIMENT)
    except mlflow.exceptions.MlflowException as error:
        raise BundleError(f"--mlflow {tracking}: {str(error).partition(chr(10))[0]}") from error
    if found and found.lifecycle_stage != "active":
        raise BundleError(
            f"--mlflow {tracking}: expected an active experiment {EXPERIMENT!r} or none, found one that was deleted; "
            f"mlflow experiments restore --experiment-id {found.experiment_id}"
        )


def log_training(tracking: str, bundle_uri: str, store: Store) -> str:
    """Log what a bundle says of its training, and the bundle itself as artifacts; returns the id of the run.

    Once: where a finished run of that model is there, it is that one.
    """
    _, client = mlflow_and_client(f"--mlflow {tracking}", tracking)
    facts = json.loads(store.fetch(f"{bundle_uri}/{bundle.FACTS}"))
    ours = experiment(client, EXPERIMENT)
    whole = f"tags.model_id = '{facts['model_id']}' and attributes.status = 'FINISHED'"
    if logged := client.search_runs([ours], filter_string=whole, max_results=1):
        return str(logged[0].info.run_id)
    run = client.create_run(ours, run_name=f"bundle {facts['model_id']}")
    from mlflow.entities import Metric, Param, RunTag

    params = [Param(key, json.dumps(value)) for key, value in facts["recipe"].items()]
    tags = [RunTag("model_id", facts["model_id"]), RunTag("notice", str(facts.get("notice", "")))]
    client.log_batch(run.info.run_id, params=params, tags=tags)
    now = int(time.time() * 1000)
    found = [Metric(key, value, now, step) for key, value, step in _figures(facts)]
    for start in range(0, len(found), AT_ONCE):
        client.log_batch(run.info.run_id, metrics=found[start : start + AT_ONCE])
    client.log_artifacts(run.info.run_id, str(local_copy(bundle_uri, store)), FOLDER)
    client.set_terminated(run.info.run_id)
    return str(run.info.run_id)


def _figures(facts: dict[str, Any]) -> Iterator[tuple[str, float, int]]:
    """Name, value and epoch, from 1, of all figures of the history; then those of `validation.*`."""
    history = facts.get("history") or {}
    for key, values in history.items():
        yield from ((key, float(value), epoch) for epoch, value in enumerate(values, 1))
    last = max((len(values) for values in history.values()), default=0)
    for key, value in (facts.get("validation") or {}).items():
        if isinstance(value, int | float):
            yield f"validation.{key}", float(value), last
