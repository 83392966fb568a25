"""Networks that make features or that a network starts from, and what `extract` keeps beside its tables of both."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pneumospark.errors import BundleError
from pneumospark.io import bundle
from pneumospark.io.applications import application
from pneumospark.io.bundle import MODEL, load_model
from pneumospark.io.drivers import FAILURES
from pneumospark.io.files import Store, canonical, scratch_folder
from pneumospark.spec import ImageSpec

LEARNT = "learnt.json"


@dataclass(frozen=True)
class Backbone:
    """A model that can make features: `identity` names its content; `path` is a local copy, None for an application.

    `splits`: of a bundle, the rows that it has learnt from and was validated on, as `Stock.facts` tells them for its
    `target`.
    """

    name: str
    identity: str
    path: Path | None
    splits: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    target: str = ""

    def knows_others(self, splits: Mapping[str, Mapping[str, Any]], target: str) -> bool:
        """Whether it has learnt from other rows, of which some may be for validation today.

        A digest covers labels, so that rows of another target are others: nobody can say.
        """
        learnt = {split: rows["digest"] for split, rows in self.splits.items() if split != "test"}
        others = any(splits[split]["digest"] != digest for split, digest in learnt.items())
        return others or (bool(learnt) and self.target != target)

    def features_id(self, spec: ImageSpec) -> str:
        """The id of the features that it makes of images of a spec."""
        return hashlib.sha256(f"{self.identity}:{spec.fingerprint()}".encode()).hexdigest()[:16]

    def load(self) -> Any:
        """The Keras model; an application comes with its ImageNet weights, which Keras fetches once."""
        if self.path:
            return load_model(self.path, self.name)
        return application(self.name)


def find(name: str, store: Store) -> Backbone:
    """The backbone behind a bundle's folder, a .keras file, or a Keras application: `MobileNetV2`, `keras:MobileNetV2`.

    Raises BundleError where there is no such bundle or file.
    """
    if name.startswith("keras:"):
        name = name.removeprefix("keras:")
        return Backbone(name, f"keras:{name}", None)
    if "/" not in name and not name.endswith(".keras"):
        return Backbone(name, f"keras:{name}", None)
    uri = canonical(name)
    if bundle.find(uri, store):
        found = bundle.read(uri, store)
        splits = (found.facts.get("data") or {}).get("splits", {})
        return Backbone(name, found.model_id, found.folder / MODEL, splits, found.target.name)
    try:
        content = store.fetch(uri)
    except FAILURES as error:
        raise BundleError(f"--backbone {name}: expected a .keras file or a bundle: {error}") from error
    local = scratch_folder() / MODEL
    local.write_bytes(content)
    return Backbone(name, hashlib.sha256(content).hexdigest(), local)


def write_spec(table_uri: str, version: str, spec: ImageSpec, store: Store) -> None:
    """Keep the image spec beside the rows of a version (a spec's fingerprint, a backbone's id), in `_spec/`."""
    store.put(f"{table_uri}/_spec/{version}.json", json.dumps(spec.to_dict()).encode())


def read_spec(table_uri: str, version: str, store: Store) -> ImageSpec:
    """The image spec of a version's rows; raises BundleError where extract left none."""
    try:
        return ImageSpec.from_dict(json.loads(store.fetch(f"{table_uri}/_spec/{version}.json")))
    except FAILURES as error:
        raise BundleError(f"{table_uri}: expected _spec/{version}.json, which extract writes: {error}") from error


def write_backbone(features_uri: str, backbone: Backbone, extractor: Any, spec: ImageSpec, store: Store) -> Path:
    """Keep the model beside the features it makes, so that a bundle can be made of both; returns a local copy's folder.

    It goes to `_backbone/<id>/`, with what the backbone has learnt from: readers of the table pass over names that
    begin with "_".
    """
    folder, version = scratch_folder(), backbone.features_id(spec)
    extractor.save(folder / MODEL)
    store.put(f"{features_uri}/_backbone/{version}/{MODEL}", (folder / MODEL).read_bytes())
    learnt = {"name": backbone.name, "splits": dict(backbone.splits), "target": backbone.target}
    store.put(f"{features_uri}/_backbone/{version}/{LEARNT}", json.dumps(learnt).encode())
    write_spec(features_uri, version, spec, store)
    return folder


def behind(features_uri: str, version: str, store: Store) -> Backbone | None:
    """What made the features of an id, to ask what it has learnt from; None for features of an earlier version."""
    uri = f"{features_uri}/_backbone/{version}/{LEARNT}"
    if not store.exists(uri):
        return None
    learnt = json.loads(store.fetch(uri))
    return Backbone(learnt["name"], version, None, learnt["splits"], learnt["target"])


def read_backbone(features_uri: str, backbone: str, store: Store) -> Any:
    """The model that made the features of an id, from pixels of their spec to (n, k)."""
    target, local = f"{features_uri}/_backbone/{backbone}", scratch_folder() / MODEL
    try:
        local.write_bytes(store.fetch(f"{target}/{MODEL}"))
    except FAILURES as error:
        raise BundleError(f"{target}: expected the backbone that made the features: {error}") from error
    return load_model(local)
