"""Explanations on an executor while it scores: TensorFlow is loaded where the first one is asked for."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pneumospark.targets import Target

Pixels = NDArray[np.uint8]
Heat = NDArray[np.float32]
_heat_of: dict[str, Callable[[Pixels], Heat]] = {}
"""One network for each Python worker, which serves many tasks."""


def make_explain(
    model_id: str, load: Callable[[], Any], target: Target, draw: Callable[[Pixels, Heat], bytes]
) -> Callable[[Pixels], list[tuple[bytes, Heat]]]:
    """(n, height, width, channels) uint8 -> for each the picture that `draw` makes, and Grad-CAM's heat (h, w), 0 to 1.

    `load` gives the Keras network of that id, `target` what its outputs are.
    """
    from pneumospark.learn.explain import compiled_grad_cam

    if model_id not in _heat_of:
        _heat_of[model_id] = compiled_grad_cam(load(), target)
    heat_of = _heat_of[model_id]
    return lambda pixels: [
        (draw(image[:, :, 0], heat), heat) for image, heat in zip(pixels, heat_of(pixels), strict=True)
    ]
