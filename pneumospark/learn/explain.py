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
from pneumospark.labels import NORMAL, PNEUMONIA
from pneumospark.targets import BINARY, Target

SQUASHING = (keras.activations.sigmoid, keras.activations.softmax)


def grad_cam(network: keras.Model, pixels: NDArray[np.uint8], target: Target = BINARY) -> NDArray[np.float32]:
    """What speaks for pneumonia, and where: (n, h, w) of 0 to 1, each scaled by its own largest value, zeros for none.

    Selvaraju et al. 2017 (arXiv:1610.02391). `pixels` is (n, height, width, channels) of the bundle's spec; h x w is
    the size of the network's last feature map; of several networks that are averaged, that of the last one. The
    gradient is that of the logit: a sure network's probability has none. It is a rough picture of attention, no proof
    of a reason (Adebayo et al. 2018, arXiv:1810.03292).
    Raises BundleError for a network without feature maps, or with other outputs than the target's.
    """
    return np.asarray(_heat(network, target, tf.constant(pixels)), np.float32)


def compiled_grad_cam(network: keras.Model, target: Target) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    """`grad_cam` of one network, for many calls: its graph is made once, by the first of them."""
    heat = tf.function(partial(_heat, network, target), reduce_retracing=True)
    return lambda pixels: np.asarray(heat(tf.constant(pixels)), np.float32)


def _heat(network: keras.Model, target: Target, pixels: tf.Tensor) -> tf.Tensor:
    if network.output_shape[-1] != len(target.outputs):
        expected = f"a network with the outputs {', '.join(target.outputs)}"
        raise BundleError(f"Grad-CAM: expected {expected}, found {network.output_shape[-1]}")
    layer = last_map(network)
    with tf.GradientTape() as tape, _logits(network), _recorded(layer, tape) as maps:
        score = tf.reduce_sum(_of_pneumonia(network(pixels, training=False), target))
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
def _logits(network: keras.Model) -> Iterator[None]:
    """The network without the sigmoid or softmax of its outputs; one that averages several, without each of theirs."""
    outputs = network.output_shape[1:]
    lasts = [
        layer for layer in _leaves(network) if layer.output.shape[1:] == outputs and _activation(layer) in SQUASHING
    ]
    before = [layer.activation for layer in lasts]
    for layer in lasts:
        layer.activation = keras.activations.linear
    try:
        yield
    finally:
        for layer, activation in zip(lasts, before, strict=True):
            layer.activation = activation


def _activation(layer: keras.layers.Layer) -> Any:
    return getattr(layer, "activation", None)


def _of_pneumonia(logits: tf.Tensor, target: Target) -> tf.Tensor:
    """(n, k) logits of a target's outputs to (n,), the logit of pneumonia; under softmax that of all but normal."""
    if target.activation != "softmax":
        return logits[:, target.outputs.index(PNEUMONIA)]
    normal = target.outputs.index(NORMAL)
    ill = [place for place in range(len(target.outputs)) if place != normal]
    return tf.reduce_logsumexp(tf.gather(logits, ill, axis=1), axis=1) - logits[:, normal]
