"""Where a map of heat is hottest, in pixels of the picture that it belongs to."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from pneumospark.pixels.prepare import fitted
from pneumospark.spec import ImageSpec

HOT = 0.5
"""The share of the largest heat from which a place counts as hot, as Zhou et al. 2016 (arXiv:1512.04150) draw boxes of
such maps (they take a fifth, of larger objects)."""


class Box(NamedTuple):
    """Shares of a picture's width and height, 0 to 1, from the top left; right and bottom lie outside."""

    left: float
    top: float
    right: float
    bottom: float

    def in_pixels(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Left, top, right, bottom in whole pixels of a picture, the box never cut."""
        left, top = int(np.floor(self.left * width)), int(np.floor(self.top * height))
        return left, top, int(np.ceil(self.right * width)), int(np.ceil(self.bottom * height))


def smooth(heat: npt.NDArray[np.float32], height: int, width: int) -> npt.NDArray[np.float32]:
    """Heat (h, w) of 0 to 1 as (height, width) of 0 to 1."""
    enlarged = Image.fromarray(heat).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(enlarged, np.float32).clip(0, 1)


def hottest(heat: npt.NDArray[np.float32], spec: ImageSpec, width: int, height: int) -> Box | None:
    """The box of the connected hot region around the hottest place; None where there is no heat.

    `heat` is (h, w), 0 to 1, over an image of the spec; `width` and `height` are those of the picture, as shown: where
    the spec pads it, the box is cut at its borders (and None where all of it lies on the padding).
    """
    from scipy.ndimage import label  # half a second in every worker of a score that explains nothing

    full = smooth(heat, spec.height, spec.width)
    if not full.any():
        return None
    regions, _ = label(full >= HOT * full.max())
    rows, columns = np.nonzero(regions == regions[np.unravel_index(full.argmax(), full.shape)])
    high, wide = fitted(height, width, spec)
    top, left = (spec.height - high) // 2, (spec.width - wide) // 2
    x = (np.array([columns.min(), columns.max() + 1]) - left) / wide
    y = (np.array([rows.min(), rows.max() + 1]) - top) / high
    (x0, x1), (y0, y1) = x.clip(0, 1).tolist(), y.clip(0, 1).tolist()
    return Box(x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None
