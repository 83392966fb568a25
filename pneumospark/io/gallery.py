"""Pictures of a report: bytes from the `images` table, by the one way to pixels, and where a network looked."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from typing import Any
from urllib.parse import unquote

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from PIL import Image
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from pneumospark.errors import DecodeError
from pneumospark.io.files import literal
from pneumospark.io.pages import THUMBNAIL
from pneumospark.labels import PNEUMONIA
from pneumospark.pixels.heat import smooth
from pneumospark.pixels.prepare import pixels_of
from pneumospark.spec import ImageSpec

Pixels = npt.NDArray[np.uint8]
Heat = npt.NDArray[np.float32]
AS_IT_IS = ImageSpec(THUMBNAIL, THUMBNAIL, fit="pad")
"""How a picture is shown where no bundle says how its network sees it."""


@dataclass(frozen=True, eq=False)
class Sample:
    """One picture: `pixels` is uint8, height x width; `probability` is that of pneumonia, 0 to 1.

    `overlay`, uint8, height x width x 3, shows where the network looked.
    """

    path: str
    pixels: Pixels
    label: str
    prediction: str
    probability: float
    overlay: Pixels | None = None

    def __post_init__(self) -> None:
        """Raise ValueError for other pixels."""
        if self.pixels.dtype != np.uint8 or self.pixels.ndim != 2:
            raise ValueError(
                f"pixels of {self.path}: expected uint8, height x width, got {self.pixels.dtype} {self.pixels.shape}"
            )

    @property
    def correct(self) -> bool:
        """Whether pneumonia was called where it is, as the figures count: `other` is right of a normal image."""
        return (self.prediction == PNEUMONIA) == (self.label == PNEUMONIA)


def samples(rows: Sequence[Mapping[str, Any]], images: DataFrame, spec: ImageSpec = AS_IT_IS) -> list[Sample]:
    """Samples of rows with path, image_id, label, prediction, probability, in their order, as a spec shows them."""
    content = _contents(rows, images)
    return [
        Sample(row["path"], pixels, row["label"], row["prediction"], row["probability"])
        for row in rows
        if (pixels := _pixels(content[row["path"], row["image_id"]], spec)) is not None
    ]


def explained(found: Sequence[Sample], spec: ImageSpec, explain: Callable[[Pixels], Heat]) -> list[Sample]:
    """The samples (n), as a spec shows them, with overlays.

    `explain` maps pixels (n, height, width, channels) of the spec to heat (n, h, w), 0 to 1.
    """
    if not found:
        return []
    grey = np.stack([sample.pixels for sample in found])  # (n, height, width)
    heat = explain(np.repeat(grey[..., np.newaxis], spec.channels, axis=-1))
    return [replace(sample, overlay=overlay(sample.pixels, one)) for sample, one in zip(found, heat, strict=True)]


def overlay(pixels: Pixels, heat: Heat) -> Pixels:
    """(height, width) grey with `heat`, (h, w) of 0 to 1, in colour: the more heat, the more colour."""
    height, width = pixels.shape
    hot = smooth(heat, height, width)
    colour = colormaps["inferno"](hot)[..., :3] * 255
    share = 0.6 * hot[..., np.newaxis]
    mixed: Pixels = np.rint((1 - share) * pixels[..., np.newaxis] + share * colour).astype(np.uint8)
    return mixed


def overlay_png(pixels: Pixels, heat: Heat) -> bytes:
    """`overlay` as a PNG file."""
    with BytesIO() as file:
        # level 1: three times as fast as 6, a tenth larger
        Image.fromarray(overlay(pixels, heat)).save(file, "PNG", compress_level=1)
        return file.getvalue()


def _pixels(content: bytes, spec: ImageSpec) -> Pixels | None:
    try:
        return pixels_of(content, spec)[:, :, 0]
    except DecodeError:  # larger than this job's limit on pixels; the figures do not need the picture
        return None


def _contents(rows: Sequence[Mapping[str, Any]], images: DataFrame) -> dict[tuple[str, str], bytes]:
    """The bytes of a few rows. Only the files of the table that hold them are read: `content` is nearly all of it."""
    if not rows:
        return {}
    wanted = F.col("path").isin([row["path"] for row in rows])
    files = images.where(wanted).select(F.input_file_name()).distinct().collect()
    schema = StructType([images.schema[name] for name in ("path", "image_id", "content")])
    table = images.sparkSession.read.schema(schema).parquet(*(literal(unquote(row[0])) for row in files))
    return {(row["path"], row["image_id"]): bytes(row["content"]) for row in table.where(wanted).collect()}
