"""A contact sheet: images as the training sees them, originals beside what augmentation makes of them."""

from collections.abc import Callable, Sequence
from io import BytesIO
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pneumospark.io.backbones import read_spec
from pneumospark.io.files import Store
from pneumospark.io.plots import STYLE
from pneumospark.io.stock import LABELS, pixel_rows, take_stock

Pixels = NDArray[np.uint8]
SAMPLES, OF_EACH, MOST = 6, 3, 2_000


def examples(prepared: str, version: str | None, store: Store) -> tuple[list[str], Pixels]:
    """Labels, and pixels (n, height, width, channels), of a few training images of each label of a prepared table."""
    stock = take_stock(prepared, "pixels", store, version)
    shape = read_spec(prepared, stock.version, store).shape
    found: dict[str, list[Pixels]] = {label: [] for label in LABELS}
    for row in pixel_rows(stock, store, ("train",), MOST):
        if len(images := found[row["label"]]) < OF_EACH:
            images.append(np.frombuffer(row["pixels"], np.uint8).reshape(shape))
        elif all(len(images) == OF_EACH for images in found.values()):
            break
    labels = [label for label, images in found.items() for _ in images]
    return labels, np.stack([image for images in found.values() for image in images])


def contact_sheet(labels: Sequence[str], pixels: Pixels, augment: Callable[[Any], NDArray[Any]]) -> bytes:
    """A PNG with a row for each image: itself, then what `augment`, (n, ...) to the same, makes of it each time."""
    columns = [pixels, *(np.clip(augment(pixels), 0, 255).astype(np.uint8) for _ in range(SAMPLES))]
    rows, wide = len(pixels), len(columns)
    with rc_context(STYLE), BytesIO() as file:
        figure = Figure(
            figsize=(1.6 * wide, 1.6 * rows * pixels.shape[1] / pixels.shape[2] + 0.4), layout="constrained"
        )
        for (row, column), axes in np.ndenumerate(figure.subplots(rows, wide, squeeze=False)):
            axes.imshow(columns[column][row][..., 0], cmap="gray", vmin=0, vmax=255)
            axes.set(xticks=[], yticks=[])
            if not row:
                axes.set_title("original" if not column else f"augmented {column}", fontsize=9)
            if not column:
                axes.set_ylabel(labels[row], fontsize=9)
        figure.savefig(file, format="png", dpi=130)
        return file.getvalue()
