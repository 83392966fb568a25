"""What a network is to tell: pneumonia or not, which kind of it, or each of several findings."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pneumospark.labels import NORMAL, PNEUMONIA

Texts = NDArray[np.str_]
UNKNOWN = -1.0
"""What an output is to be where nobody knows it: it then weighs nothing."""

BACTERIAL, VIRAL = "bacterial", "viral"
NAMES = {"bacteria": BACTERIAL, "bacterial": BACTERIAL, "virus": VIRAL, "viral": VIRAL}
"""How corpora name the kinds of pneumonia among their findings."""

FINDINGS = (
    "atelectasis",
    "cardiomegaly",
    "consolidation",
    "edema",
    "effusion",
    "emphysema",
    "fibrosis",
    "hernia",
    "infiltration",
    "mass",
    "nodule",
    "pleural_thickening",
    "pneumonia",
    "pneumothorax",
)
"""The 14 of NIH ChestX-ray14 (Wang et al. 2017, arXiv:1705.02315)."""


@dataclass(frozen=True)
class Target:
    """A network's outputs, their `activation`, and how the labels and findings of images say what they are to be.

    `encode` takes labels (n,) and findings (n,), joined by "|", to (n, k) float32 of 0, 1 and UNKNOWN.
    """

    name: str
    outputs: tuple[str, ...]
    activation: str
    encode: Callable[[Texts, Texts], NDArray[np.float32]]

    @property
    def is_binary(self) -> bool:
        """Whether it is the one output that all else is made for."""
        return len(self.outputs) == 1

    def known(self, labels: Texts, findings: Texts) -> NDArray[np.bool_]:
        """(n,) whether an image can teach any output anything."""
        return np.asarray((self.encode(labels, findings) != UNKNOWN).any(axis=1))

    def truth(self, labels: Texts, findings: Texts) -> NDArray[np.float32]:
        """What the outputs are to be: (n,) for one output, else (n, k)."""
        encoded = self.encode(labels, findings)
        return encoded[:, 0] if self.is_binary else encoded

    def pneumonia(self, values: NDArray[Any]) -> NDArray[Any]:
        """Of what the outputs are (n, k), or are to be, that of pneumonia (n,): itself, or the sum of its kinds."""
        if self.name == "kind":
            return np.asarray(1 - values[:, self.outputs.index(NORMAL)])
        return np.asarray(values[:, self.outputs.index(PNEUMONIA)])


def _pneumonia(labels: Texts, findings: Texts) -> NDArray[np.float32]:
    known = np.isin(labels, (NORMAL, PNEUMONIA))
    return np.where(known, labels == PNEUMONIA, UNKNOWN)[:, np.newaxis].astype(np.float32)


def _kind(labels: Texts, findings: Texts) -> NDArray[np.float32]:
    """One of three is 1; all are unknown where a pneumonia's kind is, or where two are named."""
    found = np.full((len(labels), 3), UNKNOWN, np.float32)
    for row, (label, text) in enumerate(zip(labels, findings, strict=True)):
        kinds = {NAMES[name] for name in str(text).split("|") if name in NAMES} if label == PNEUMONIA else set()
        if label == NORMAL or len(kinds) == 1:
            found[row] = [name == (NORMAL if label == NORMAL else min(kinds)) for name in KIND.outputs]
    return found


def _findings(labels: Texts, findings: Texts) -> NDArray[np.float32]:
    """Where one of the 14 is named all are read; a normal image has none; else the label alone is known."""
    found = np.full((len(labels), len(FINDINGS)), UNKNOWN, np.float32)
    for row, (label, text) in enumerate(zip(labels, findings, strict=True)):
        named = set(str(text).split("|")) & set(FINDINGS)
        if named or label == NORMAL:
            found[row] = [name in named for name in FINDINGS]
        if label == PNEUMONIA:
            found[row, FINDINGS.index(PNEUMONIA)] = 1
    return found


BINARY = Target("pneumonia", (PNEUMONIA,), "sigmoid", _pneumonia)
KIND = Target("kind", (NORMAL, BACTERIAL, VIRAL), "softmax", _kind)
TARGETS = {target.name: target for target in (BINARY, KIND, Target("findings", FINDINGS, "sigmoid", _findings))}
