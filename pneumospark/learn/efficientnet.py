"""EfficientNet-Lite without its top, in Keras, from the names and shapes of the published PyTorch weights."""

import math
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import layers

Weights = Mapping[str, npt.NDArray[Any]]
Tensor = Any

# Width, depth and image size of each: tensorflow/tpu, models/official/efficientnet/lite (Apache-2.0).
VARIANTS = {
    "efficientnet-lite0": (1.0, 1.0, 224),
    "efficientnet-lite1": (1.0, 1.1, 240),
    "efficientnet-lite2": (1.1, 1.2, 260),
}
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
"""Repeats, kernel, stride, expansion and channels of EfficientNet-B0's stages (Tan and Le 2019, arXiv:1905.11946)."""


def efficientnet_lite(name: str, weights: Weights) -> keras.Model:
    """A variant with these weights: RGB 0..255 (n, size, size, 3) to maps (n, size / 32, size / 32, 1280).

    ReLU6 and no squeeze-and-excitation, as Lite means; the first and the last stage are not deepened.
    Raises KeyError for a weight that is missing, ValueError for one of another shape.
    """
    width, depth, size = VARIANTS[name]
    inputs = keras.Input((size, size, 3))
    x = layers.Rescaling(1 / 128, offset=-127 / 128, name="rescale")(inputs)
    net = _Net(weights)
    x = net.relu6(net.normalised(net.conv(x, 32, 3, 2, "_conv_stem"), "_bn0"))
    block = 0
    for stage, (repeats, kernel, stride, expansion, channels) in enumerate(STAGES):
        deepened = repeats if stage in (0, len(STAGES) - 1) else math.ceil(depth * repeats)
        for repeat in range(deepened):
            x = _block(
                net, x, f"_blocks.{block}", (kernel, 1 if repeat else stride, expansion, _rounded(width * channels))
            )
            block += 1
    x = net.relu6(net.normalised(net.conv(x, 1280, 1, 1, "_conv_head"), "_bn1"))
    model = keras.Model(inputs, x, name=name)
    for layer_name, values in net.values.items():
        model.get_layer(layer_name).set_weights(values)
    return model


class _Net:
    """Layers named after their weights, and the values that they get once the model is whole."""

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self.values: dict[str, list[npt.NDArray[np.float32]]] = {}

    def conv(self, x: Tensor, channels: int, kernel: int, stride: int, name: str) -> Tensor:
        layer = layers.Conv2D(channels, kernel, strides=stride, padding="same", use_bias=False, name=_layer(name))
        self.values[layer.name] = [self.weights[f"{name}.weight"].transpose(2, 3, 1, 0)]  # PyTorch: out, in, h, w
        return layer(x)

    def depthwise(self, x: Tensor, kernel: int, stride: int, name: str) -> Tensor:
        layer = layers.DepthwiseConv2D(kernel, strides=stride, padding="same", use_bias=False, name=_layer(name))
        self.values[layer.name] = [self.weights[f"{name}.weight"].transpose(2, 3, 0, 1)]  # h, w, channels, 1
        return layer(x)

    def normalised(self, x: Tensor, name: str) -> Tensor:
        layer = layers.BatchNormalization(epsilon=1e-3, name=_layer(name))
        self.values[layer.name] = [
            self.weights[f"{name}.{kind}"] for kind in ("weight", "bias", "running_mean", "running_var")
        ]
        return layer(x)

    def relu6(self, x: Tensor) -> Tensor:
        return layers.ReLU(6.0)(x)


def _block(net: _Net, x: Tensor, name: str, shape: tuple[int, int, int, int]) -> Tensor:
    """An inverted residual block: expand, convolve each channel, project; the shortcut where shapes are equal."""
    kernel, stride, expansion, channels = shape
    y = x
    if expansion > 1:
        y = net.conv(y, expansion * x.shape[-1], 1, 1, f"{name}._expand_conv")
        y = net.relu6(net.normalised(y, f"{name}._bn0"))
    y = net.relu6(net.normalised(net.depthwise(y, kernel, stride, f"{name}._depthwise_conv"), f"{name}._bn1"))
    y = net.normalised(net.conv(y, channels, 1, 1, f"{name}._project_conv"), f"{name}._bn2")
    return layers.Add()([x, y]) if stride == 1 and x.shape[-1] == channels else y


def _rounded(channels: float) -> int:
    """The nearest multiple of 8, not more than a tenth below."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * channels else nearest + 8


def _layer(name: str) -> str:
    return name.replace(".", "").strip("_")
