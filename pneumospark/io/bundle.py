"""Model bundles: a folder of model, facts and model card, written once, verified at every load, then shipped."""

import functools
import hashlib
import json
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pneumospark.errors import BundleError
from pneumospark.io.card import model_card
from pneumospark.io.drivers import FAILURES
from pneumospark.io.engines import OPENVINO_FILES, OpenvinoForm
from pneumospark.io.files import Store, scratch_folder
from pneumospark.spec import ImageSpec
from pneumospark.targets import BINARY, TARGETS, Target

MODEL, FACTS, CARD = "model.keras", "bundle.json", "model_card.md"


@dataclass(frozen=True)
class Bundle:
    """A verified bundle: `folder` is a local copy of it, `facts` all that bundle.json says."""

    model_id: str
    spec: ImageSpec
    labels: tuple[str, str]
    threshold: float
    facts: dict[str, Any]
    folder: Path

    @property
    def target(self) -> Target:
        """What its outputs are; raises BundleError where this version knows other ones by that name."""
        outputs = self.facts.get("outputs") or {"target": BINARY.name, "names": list(BINARY.outputs)}
        target = TARGETS.get(outputs["target"])
        if target is None or list(target.outputs) != outputs["names"]:
            raise BundleError(f"bundle {self.model_id}: expected outputs {sorted(TARGETS)}, found {outputs}")
        return target


def find(uri: str, store: Store) -> dict[str, Any] | None:
    """The facts of the bundle at a URI, None where no whole one is: bundle.json is written last."""
    if not store.exists(f"{uri}/{FACTS}"):
        return None
    try:
        facts: dict[str, Any] = json.loads(store.fetch(f"{uri}/{FACTS}"))
    except ValueError:  # killed in the middle of that very file
        return None
    return facts


def trained_already(uri: str, asked: dict[str, Any], store: Store) -> str | None:
    """The model_id where the bundle at a URI was made of what is asked for, None where there is none.

    Raises BundleError where one of another recipe or of other data is there.
    """
    if (facts := find(uri, store)) is None:
        return None
    for name, value in json.loads(json.dumps(asked)).items():
        if facts.get(name) != value:
            raise BundleError(
                f"{uri}: a bundle is there whose {name} is {facts.get(name)}, asked for is {value}; "
                "choose another folder"
            )
    return str(facts["model_id"])


def check_writable(uri: str, store: Store) -> None:
    """Raise SourceError, before hours of training, where nothing can be written into a bundle's folder."""
    store.put(probe := f"{uri}/.probe-{secrets.token_hex(4)}", b"can this be written?")
    store.remove(probe)


def write(uri: str, model: Any, facts: dict[str, Any], store: Store, form: OpenvinoForm | None = None) -> str:
    """Write a bundle and return its model_id, a hash of its whole content; raises BundleError where one is already.

    `form` is the same model for OpenVINO. Table and curves of the training lie beside it: drawn from `history` in the
    facts, they have no part in the id.
    """
    from pneumospark.io.history import history_files  # matplotlib, which an executor has no use for

    if find(uri, store):
        raise BundleError(f"{uri}: a bundle is there already and a bundle is never changed; choose another folder")
    local = scratch_folder() / MODEL
    model.save(local)
    content = local.read_bytes()
    card = model_card(facts).encode()
    facts = {**facts, "openvino": form.facts if form else None}
    facts["model_card"] = hashlib.sha256(card).hexdigest()  # and so the id covers the card
    model_id = _content_id(content, facts)
    for name, drawn in history_files(facts.get("history", {})).items():
        store.put(f"{uri}/{name}", drawn)
    store.put(f"{uri}/{MODEL}", content)
    for name, file in (form.files if form else {}).items():
        store.put(f"{uri}/{name}", file)
    store.put(f"{uri}/{CARD}", card)
    store.put(f"{uri}/{FACTS}", json.dumps({"model_id": model_id, **facts}, indent=2).encode())
    return model_id


@dataclass(frozen=True)
class Checkpoint:
    """What a training leaves in its bundle's folder until the bundle is whole; one of another recipe is not seen."""

    uri: str
    asked: dict[str, Any]
    store: Store

    def saved(self) -> bytes | None:
        """What was saved last, None where nothing was."""
        return self.store.fetch(self._place) if self.store.exists(self._place) else None

    def save(self, state: bytes) -> None:
        """Replace what was saved last, which a kill or a full disk in the middle of it leaves as it is."""
        self.store.replace(self._place, state)

    def remove(self) -> None:
        """The training is over."""
        self.store.remove(self._place)

    @functools.cached_property
    def _place(self) -> str:
        digest = hashlib.sha256(json.dumps(self.asked, sort_keys=True).encode()).hexdigest()
        return f"{self.uri}/_checkpoint/{digest[:16]}.npz"


def read(uri: str, store: Store) -> Bundle:
    """Fetch and verify a bundle.

    Raises BundleError where it is missing or changed, ConfigError for pixels of another version.
    """
    try:
        store.exists(uri)  # raises SourceError where the store itself is not there
        content = store.fetch(f"{uri}/{MODEL}")
        facts = json.loads(store.fetch(f"{uri}/{FACTS}"))
        model_id = facts.pop("model_id")
        card = store.fetch(f"{uri}/{CARD}") if "model_card" in facts else None
        digests = (facts.get("openvino") or {}).get("files", {})
        form = {name: store.fetch(f"{uri}/{name}") for name in OPENVINO_FILES if name in digests}
    except (*FAILURES, ValueError, KeyError) as error:
        raise BundleError(
            f"{uri}: expected a bundle of {MODEL} and {FACTS}: {type(error).__name__}: {error}"
        ) from error
    if (found := _content_id(content, facts)) != model_id:
        raise BundleError(
            f"{uri}: expected the content of model {model_id}, found {found}: it was changed after it was written"
        )
    if card is not None and hashlib.sha256(card).hexdigest() != facts["model_card"]:
        raise BundleError(f"{uri}/{CARD}: expected the card that was written with the model: it was changed")
    for name, file in form.items():
        if hashlib.sha256(file).hexdigest() != digests[name]:
            raise BundleError(f"{uri}/{name}: expected the file that was written with the model: it was changed")
    folder = scratch_folder()
    for name, file in {MODEL: content, **form}.items():
        (folder / name).write_bytes(file)
    return Bundle(
        model_id, ImageSpec.from_dict(facts["spec"]), tuple(facts["labels"]), facts["threshold"]["value"], facts, folder
    )


def check_members(members: Sequence[Bundle], spec: ImageSpec, data: dict[str, Any], uris: Sequence[str]) -> None:
    """Raise BundleError where bundles to be averaged are too few, or were made for other pixels than `spec` gives.

    Or from other rows than those of `data`, as `Stock.facts` tells them: a member that has learnt from an image of
    today's validation split would speak for itself there.
    """
    rows = {split: of_split["digest"] for split, of_split in data["splits"].items() if split != "test"}
    if len(members) == 1:
        raise BundleError(f"--members {uris[0]}: expected two bundles or more, with commas between them")
    for member, uri in zip(members, uris, strict=True):
        if not member.target.is_binary:
            raise BundleError(f"--members {uri}: expected a bundle of one output, found {member.target.outputs}")
        if member.spec != spec:
            raise BundleError(f"--members {uri}: expected a bundle for images of {spec}, found {member.spec}")
        splits = (member.facts.get("data") or {}).get("splits", {})
        found = {split: of_split["digest"] for split, of_split in splits.items() if split != "test"}
        if found != rows:
            raise BundleError(
                f"--members {uri}: expected a bundle trained and validated on the table's rows, digests {rows}, "
                f"found {found}: train it anew on this table"
            )


def load_model(path: Path, uri: str = "") -> Any:
    """A Keras model, loaded in safe mode: no code from the file runs. Raises BundleError where it is none.

    `uri` is where it came from, for the error.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras  # seconds and gigabytes: only where a model is used

    try:
        return keras.models.load_model(path, compile=False, safe_mode=True)
    except (ValueError, TypeError, OSError) as error:
        raise BundleError(f"{uri or path.name}: expected a Keras model: {error}") from error


def _content_id(model: bytes, facts: dict[str, Any]) -> str:
    digest = hashlib.sha256(hashlib.sha256(model).digest())
    digest.update(json.dumps(facts, sort_keys=True).encode())
    return digest.hexdigest()[:16]
