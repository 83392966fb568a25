"""Where a network looked: Grad-CAM over the last feature map of any of our Keras models, nested ones too."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from pneumospark.errors import BundleError


def grad_cam(network: keras.Model, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What speaks for pneumonia, and where: (n, h, w) of 0 to 1, each scaled by its own largest value, zeros for none.

    Selvaraju et al. 2017 (arXiv:1610.02391). `pixels` is (n, height, width, channels) of the bundle's spec; h x w is
    the size of the network's last feature map; of several networks that are averaged, that of the last one. The
    gradient is that of the logit: a sure network's probability has none. It is a rough picture of attention, no proof
    of a reason (Adebayo et al. 2018, arXiv:1810.03292).
    Raises BundleError for a network without feature maps, or with more than one output.
    """
    return np.asarray(_heat(network, tf.constant(pixels)), np.float32)


def compiled_grad_cam(network: keras.Model) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    """`grad_cam` of one network, for many calls: its graph is made once, by the first of them."""
    heat = tf.function(partial(_heat, network), reduce_retracing=True)
    return lambda pixels: np.asarray(heat(tf.constant(pixels)), np.float32)


def _heat(network: keras.Model, pixels: tf.Tensor) -> tf.Tensor:
    if network.output_shape[-1] != 1:
        raise BundleError(f"Grad-CAM: expected a network of one output, found {network.output_shape[-1]}")
    layer = last_map(network)
    with tf.GradientTape() as tape, _logit(network), _recorded(layer, tape) as maps:
        score = tf.reduce_sum(network(pixels, training=False))
    weights = tf.reduce_mean(tape.gradient(score, maps[-1]), axis=(1, 2), keepdims=True)  # (n, 1, 1, channels)
    found = tf.nn.relu(tf.reduce_sum(weights * maps[-1], axis=-1))
    return tf.math.divide_no_nan(found, tf.reduce_max(found, axis=(1, 2), keepdims=True))


def last_map(network: keras.Model) -> keras.layers.Layer:
    """The last layer, also of a model within the model, whose output is (n, h, w, channels) of more than one place."""
    for layer in reversed(list(_leaves(network))):
        shape = layer.output.shape
        if len(shape) == 4 and shape[1:3] != (1, 1) and not isinstance(layer, keras.layers.InputLayer):
            return layer
    raise BundleError(f"Grad-CAM: expected a network with feature maps, {network.name} has none")


def _leaves(model: keras.Model) -> Iterator[keras.layers.Layer]:
    for layer in model.layers:
        yield from _leaves(layer) if isinstance(layer, keras.Model) else (layer,)


@contextmanager
def _recorded(layer: keras.layers.Layer, tape: tf.GradientTape) -> Iterator[list[Any]]:
    """Keep, and let the tape watch, what a layer gives while the network runs: it needs no graph to be rebuilt."""
    original, outputs = layer.call, []

    def call(*args: Any, **kwargs: Any) -> Any:
        outputs.append(original(*args, **kwargs))
        tape.watch(outputs[-1])
        return outputs[-1]

    layer.call = call
    try:
        yield outputs
    finally:
        layer.call = original


@contextmanager
def _logit(network: keras.Model) -> Iterator[None]:
    """The network without the sigmoid of its output; one that averages several is without each of theirs."""
    lasts = [layer for layer in _leaves(network) if layer.output.shape[1:] == (1,) and _is_sigmoid(layer)]
    for layer in lasts:
        layer.activation = keras.activations.linear
    try:
        yield
    finally:
        for layer in lasts:
            layer.activation = keras.activations.sigmoid


def _is_sigmoid(layer: keras.layers.Layer) -> bool:
    return getattr(layer, "activation", None) is keras.activations.sigmoid
