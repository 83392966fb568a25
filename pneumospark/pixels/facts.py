"""Numbers that see no lung and yet may tell its label: brightness, contrast, edges and borders of an image."""

from typing import Any

import numpy as np
import numpy.typing as npt

PERCENTILES = (5, 25, 50, 75, 95)
BLACK, WHITE = 5, 250
"""Grey levels up to and from which a pixel counts as black or white: a JPEG leaves neither at exactly 0 or 255."""

BORDER = 0.05
"""The outermost part of each side that is border: collimation, letters, the film's edge."""

PIXEL_FACTS = (
    "mean",
    "std",
    *(f"percentile_{percentile}" for percentile in PERCENTILES),
    "black",
    "white",
    "border",
    "gradient_x",
    "gradient_y",
    "gradient_ratio",
    "sharpness",
)


def pixel_facts(pixels: npt.NDArray[np.uint8]) -> dict[str, float]:
    """PIXEL_FACTS of one grey image, (height, width) or (height, width, channels) of which the first one counts.

    mean, std, percentiles and border: grey levels 0 to 255. black, white: shares 0 to 1. gradient_x and gradient_y: the
    mean step between neighbours in a row and in a column, in grey levels; gradient_ratio: x of x + y, 0.5 where there
    is neither. sharpness: standard deviation of the Laplacian. Raises ValueError for other pixels, or fewer than 3 x 3.
    """
    grey = pixels[:, :, 0] if pixels.ndim == 3 else pixels
    if grey.ndim != 2 or grey.dtype != np.uint8 or min(grey.shape) < 3:
        raise ValueError(f"expected (height, width) of uint8, 3 x 3 at least, got {pixels.shape} of {pixels.dtype}")
    levels = np.bincount(grey.ravel(), minlength=256) / grey.size  # (256,): everything about brightness is in here
    steps = grey.astype(np.int16)  # differences of uint8 would wrap
    across, down = float(np.abs(np.diff(steps, axis=1)).mean()), float(np.abs(np.diff(steps, axis=0)).mean())
    return {
        **_brightness(levels),
        "border": _border(grey),
        "gradient_x": across,
        "gradient_y": down,
        "gradient_ratio": across / (across + down) if across + down else 0.5,
        "sharpness": _sharpness(steps),
    }


def _brightness(levels: npt.NDArray[np.float64]) -> dict[str, float]:
    """Of the share of pixels at each of 256 grey levels; a percentile is the lowest level that reaches its share."""
    grey, reached = np.arange(256), np.cumsum(levels)
    mean = float(levels @ grey)
    found = np.searchsorted(reached, np.array(PERCENTILES) / 100 - 1e-12)  # the sum of shares is not exactly 1
    return {
        "mean": mean,
        "std": float(levels @ (grey - mean) ** 2) ** 0.5,
        **{f"percentile_{name}": float(level) for name, level in zip(PERCENTILES, found, strict=True)},
        "black": float(levels[: BLACK + 1].sum()),
        "white": float(levels[WHITE:].sum()),
    }


def _border(grey: npt.NDArray[np.uint8]) -> float:
    """Mean grey level of the outermost BORDER of each side, one pixel at least."""
    height, width = grey.shape
    rows, columns = max(1, round(BORDER * height)), max(1, round(BORDER * width))
    inner = grey[rows : height - rows, columns : width - columns]
    return float((grey.sum(dtype=np.int64) - inner.sum(dtype=np.int64)) / (grey.size - inner.size))


def _sharpness(steps: npt.NDArray[np.int16]) -> float:
    """Standard deviation of the discrete Laplacian (four neighbours); its variance is the usual measure of focus.

    J. L. Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy", ICPR 2000.
    """
    middle = steps[1:-1, 1:-1]
    neighbours: npt.NDArray[Any] = steps[:-2, 1:-1] + steps[2:, 1:-1] + steps[1:-1, :-2] + steps[1:-1, 2:]
    return float((neighbours - 4 * middle).std())
