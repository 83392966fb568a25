"""What a bundle holds of its network besides its figures: what it has learnt, what to expect, and a form for OpenVINO.

A bundle is whole without any of these: where one cannot be had, a word in the log says so.
"""

from itertools import islice
from typing import Any

import numpy as np

from pneumospark.config import TrainConfig
from pneumospark.io.engines import OpenvinoForm, openvino_form
from pneumospark.io.files import Store
from pneumospark.io.logs import log
from pneumospark.io.stock import Stock, patients, pixel_rows

COMPARED = 64
"""Validation images on which TensorFlow and OpenVINO must agree."""

AUDITED = 20_000
"""Images, at most, by which shortcuts are told."""


def generalisation_of(config: TrainConfig, stock: Stock, shape: tuple[int, ...], model: Any, store: Store) -> Any:
    """Figures that tell lungs from shortcuts; None where there are too few patients."""
    from pneumospark.learn.generalisation import generalisation
    from pneumospark.learn.trainer import forward

    rows = pixel_rows(stock, store, ("train", "validation"), AUDITED)
    try:
        ask, target = forward(model), stock.target
        told = ask if target.is_binary else lambda pixels: target.pneumonia(ask(pixels))
        figures = generalisation(rows, told, shape, config.seed)
    except ValueError as error:
        log.warning("train: shortcuts cannot be told: %s", error)
        return None
    log.info("train: counter-shortcut part %s", figures["counter_shortcut"])
    return figures


def openvino_form_of(stock: Stock, shape: tuple[int, ...], model: Any, store: Store) -> OpenvinoForm | None:
    """The network for OpenVINO, compared on validation images; None where it cannot be had."""
    rows = islice(pixel_rows(stock, store, ("validation",), AUDITED), COMPARED)
    pixels = np.stack([np.frombuffer(row["pixels"], np.uint8).reshape(shape) for row in rows])
    try:
        form = openvino_form(model, pixels)
    except Exception as error:  # whatever a converter says of a network, the bundle is whole without this form
        log.warning("train: no form for OpenVINO, score will use TensorFlow: %s: %s", type(error).__name__, error)
        return None
    log.info("train: OpenVINO differs by %.1g at most", form.facts["largest_difference"])
    return form


def reference_of(stock: Stock, shape: tuple[int, ...], probability: Any, store: Store) -> Any:
    """What later runs of score are compared with; None where there are too few images."""
    from pneumospark.learn import drift

    figures = {drift.PROBABILITY: probability}
    if stock.column == "pixels":
        figures |= drift.statistics(pixel_rows(stock, store, ("validation",), AUDITED), shape)
    try:
        return drift.reference(figures, patients(stock, store, "validation"))
    except ValueError as error:
        log.warning("train: drift cannot be told of this model: %s", error)
        return None
