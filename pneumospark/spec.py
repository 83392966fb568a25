"""ImageSpec: what every image becomes before a network sees it, and the fingerprint that proves it."""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

from pneumospark.errors import ConfigError

FITS = ("stretch", "pad")
ALGORITHM = 3
"""Raise this when `pixels.decode` or `pixels.prepare` would give other pixels for the same file and the same spec."""


@dataclass(frozen=True)
class ImageSpec:
    """Size and geometry of a prepared image: uint8, row-major, height x width x channels.

    `fit` says how another aspect ratio is met: "stretch" to the full size, or "pad" with black, centred.
    `channels` is 1 (grey) or 3 (grey, three times). Colour never passes: in the data set of Kermany et al. every
    RGB file is a pneumonia, so colour would tell the label.
    """

    height: int = 224
    width: int = 224
    channels: int = 1
    fit: str = "stretch"

    def __post_init__(self) -> None:
        """Raise ConfigError for a value out of range."""
        for name in ("height", "width"):
            if not 8 <= getattr(self, name) <= 4096:
                raise ConfigError(f"image.{name}: expected 8 to 4096 pixels, got {getattr(self, name)}")
        if self.channels not in (1, 3):
            raise ConfigError(f"image.channels: expected 1 or 3, got {self.channels}")
        if self.fit not in FITS:
            raise ConfigError(f"image.fit: expected one of {', '.join(FITS)}, got {self.fit!r}")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width, channels."""
        return self.height, self.width, self.channels

    @property
    def nbytes(self) -> int:
        """Bytes of one prepared image."""
        return self.height * self.width * self.channels

    def fingerprint(self) -> str:
        """16 hex digits over all fields and the version of the algorithm: equal means equal pixels for equal bytes."""
        text = json.dumps({**asdict(self), "algorithm": ALGORITHM}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def to_dict(self) -> dict[str, Any]:
        """The fields and the fingerprint, as a bundle keeps them."""
        return {**asdict(self), "fingerprint": self.fingerprint()}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "ImageSpec":
        """The spec that `to_dict` wrote; raises ConfigError where this version of the code would give other pixels."""
        try:
            spec = cls(**{name: value for name, value in fields.items() if name != "fingerprint"})
        except TypeError as error:
            raise ConfigError(
                f"image spec {fields}: expected the fields of this version of pneumospark: {error}"
            ) from error
        if spec.fingerprint() != fields.get("fingerprint"):
            raise ConfigError(
                f"image spec {fields}: expected fingerprint {spec.fingerprint()} (algorithm {ALGORITHM} of this "
                f"version), got {fields.get('fingerprint')}: the images were prepared by another version of pneumospark"
            )
        return spec
