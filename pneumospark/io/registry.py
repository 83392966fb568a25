"""Bundles in an MLflow registry: `models:/NAME@ALIAS` or `models:/NAME/VERSION` as a folder; a bundle as a version."""

import os
import re
from pathlib import Path
from typing import Any

from pneumospark.errors import BundleError
from pneumospark.io import bundle
from pneumospark.io.files import Store, canonical, plain, scheme_of, scratch_folder

DEFAULT = "sqlite:///mlflow.db"
"""Where the environment names no registry: a file in the working directory."""

FOLDER = "bundle"
"""Of a run's artifacts."""

QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
"""MLflow tells its makers how it is used unless these are set before it is imported."""


def bundle_uri(uri: str) -> str:
    """The folder of a bundle: that of a URI in its canonical form, for `models:/` a local copy of what is registered.

    Raises BundleError where the registry does not know it, or MLflow is not installed.
    """
    if not uri.startswith("models:"):
        return canonical(uri)
    from_mlflow, client = mlflow_and_client(uri)
    name, kind, which = _parsed(uri)
    try:
        version = (
            client.get_model_version_by_alias(name, which) if kind == "@" else client.get_model_version(name, which)
        )
        copy = from_mlflow.artifacts.download_artifacts(
            artifact_uri=version.source, dst_path=str(scratch_folder()), tracking_uri=_tracking()
        )
    except (from_mlflow.exceptions.MlflowException, OSError) as error:
        raise BundleError(f"{uri}: not to be had from the registry {_registry()}: {_first_line(error)}") from error
    return canonical(copy)


def register(uri: str, name: str, alias: str | None, store: Store) -> str:
    """Make a bundle a new version of a registered model and give it an alias; its `models:/NAME/VERSION`.

    The bundle is verified first, and kept whole as artifacts of a run, file by file. Raises BundleError.
    """
    mlflow, client = mlflow_and_client(f"models:/{name}")
    source = canonical(uri)
    found = bundle.read(source, store)
    folder = local_copy(source, store)
    run = client.create_run(experiment(client, "pneumospark"), run_name=f"bundle {found.model_id}")
    client.log_artifacts(run.info.run_id, str(folder), FOLDER)
    client.set_terminated(run.info.run_id)
    try:
        client.create_registered_model(name)
    except mlflow.exceptions.MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise BundleError(f"--name {name}: {_first_line(error)}") from error
    artifacts = f"{run.info.artifact_uri.rstrip('/')}/{FOLDER}"
    tags = {"model_id": found.model_id, "spec": found.spec.fingerprint()}
    version = client.create_model_version(name, artifacts, run.info.run_id, tags=tags).version
    if alias:
        client.set_registered_model_alias(name, alias, version)
    return f"models:/{name}/{version}"


def mlflow_and_client(asked: str, tracking: str | None = None) -> tuple[Any, Any]:
    """The module and a client, of the registry or of a `tracking` URI; raises BundleError where it is missing."""
    for key, value in QUIET.items():
        os.environ.setdefault(key, value)
    try:
        import mlflow
    except ImportError as error:
        raise BundleError(f"{asked}: MLflow is not installed: pip install 'pneumospark[mlflow]'") from error
    try:
        return mlflow, mlflow.MlflowClient(tracking or _tracking(), tracking or _registry())
    except mlflow.exceptions.MlflowException as error:  # it knows no such kind of URI
        raise BundleError(f"{asked}: {_first_line(error)}") from error


def _tracking() -> str:
    return os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT


def _registry() -> str:
    return os.environ.get("MLFLOW_REGISTRY_URI") or _tracking()


def _parsed(uri: str) -> tuple[str, str, str]:
    if not (found := re.fullmatch(r"models:/([^/@]+)([/@])([^/@]+)", uri)):
        raise BundleError(f"{uri}: expected models:/NAME@ALIAS or models:/NAME/VERSION")
    name, kind, which = found.groups()
    return name, kind, which


def experiment(client: Any, name: str) -> str:
    """The id of an experiment, made where there is none."""
    found = client.get_experiment_by_name(name)
    return str(found.experiment_id if found else client.create_experiment(name))


def local_copy(uri: str, store: Store) -> Path:
    """A folder of this machine with the files of a bundle: they lie side by side."""
    if scheme_of(uri) == "file":
        return Path(plain(uri))
    folder = scratch_folder()
    for entry in store.list_folder(uri):
        if not entry.is_folder and entry.length:
            (folder / entry.path.rpartition("/")[2]).write_bytes(store.fetch(entry.path))
    return folder


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]
