"""The networks that learn from nothing, by name: pixels (n, height, width, channels), 0..255, to probabilities."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
from keras import layers

from pneumospark.config import TrainConfig
from pneumospark.errors import ConfigError
from pneumospark.targets import TARGETS

Tensor = Any
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Options:
    """What can be changed in a network: the defaults are the network as it is published.

    `dropout` is a share, None for the network's own; `l1` and `l2` weigh the penalty on kernels; `mean_normalised`
    takes each image's own mean from it. `outputs` units of one `activation` come last.
    """

    outputs: int = 1
    activation: str = "sigmoid"
    dropout: float | None = None
    batch_normalisation: bool = False
    l1: float = 0.0
    l2: float = 0.0
    mean_normalised: bool = False

    def dropped(self, x: Tensor, usual: float) -> Tensor:
        """`x` with the share of it dropped that is set, else the usual one."""
        share = usual if self.dropout is None else self.dropout
        return layers.Dropout(share)(x) if share else x

    def regularizer(self) -> keras.Regularizer | None:
        """The penalty on a kernel; a new one for each layer, as Keras wants it."""
        return keras.regularizers.L1L2(self.l1, self.l2) if self.l1 or self.l2 else None

    def last(self, x: Tensor) -> Tensor:
        """The output layer."""
        return layers.Dense(self.outputs, activation=self.activation)(x)


PLAIN = Options()


def options_of(recipe: TrainConfig) -> Options:
    """A recipe's options, and the outputs of its target."""
    target = TARGETS[recipe.target]
    return Options(
        outputs=len(target.outputs),
        activation=target.activation,
        dropout=recipe.dropout,
        batch_normalisation=recipe.batch_normalisation,
        l1=recipe.l1,
        l2=recipe.l2,
        mean_normalised=recipe.mean_normalised,
    )


def published(shape: Shape, options: Options = PLAIN) -> keras.Model:
    """The CNN of Adepu and Bejjanki (2023), for 500 x 500 grey: five 3x3 convolutions and 2x2 poolings, dense 128, 64.

    Valid padding gives 498, 249, 247, 123, 121, 60, 58, 29, 27, 13 pixels a side and 13 x 13 x 64 = 10,816 features, as
    the paper counts them. Other sizes make the same stack; below 94 pixels a side nothing would be left to pool.
    Options: batch normalisation between a convolution and its ReLU, dropout after each dense layer.
    """
    if min(shape[:2]) < 94:
        raise ConfigError(f"--network published: expected images of at least 94 x 94, got {shape[0]} x {shape[1]}")
    inputs = keras.Input(shape)
    x = layers.Rescaling(1 / 255)(inputs)
    if options.mean_normalised:
        x = layers.Subtract()([x, layers.GlobalAveragePooling2D(keepdims=True)(x)])
    for filters in (32, 32, 32, 64, 64):
        x = layers.Conv2D(filters, 3, kernel_regularizer=options.regularizer())(x)
        x = layers.Activation("relu")(_normalised(x) if options.batch_normalisation else x)
        x = layers.MaxPooling2D(2)(x)
    x = layers.Flatten()(x)
    for units in (128, 64):
        x = layers.Dense(units, activation="relu", kernel_regularizer=options.regularizer())(x)
        x = options.dropped(x, 0.0)
    return keras.Model(inputs, options.last(x), name="published")


def residual(shape: Shape, options: Options = PLAIN) -> keras.Model:
    """A small residual network of pre-activation blocks (He et al. 2016, arXiv:1603.05027): 1.0 M parameters."""
    return _residual(shape, options, "residual", ((32, 1), (64, 2), (96, 2), (128, 2)), _block)


def residual_v2(shape: Shape, options: Options = PLAIN) -> keras.Model:
    """ResNet-26 v2 of half the width: pre-activation bottlenecks (arXiv:1603.05027, figure 4e), 3.5 M parameters.

    Two blocks in each of four stages of 128, 256, 512 and 1,024 maps, of three convolutions each: 1x1 to a quarter of
    the maps, 3x3, and 1x1 back.
    """
    return _residual(shape, options, "residual-v2", ((128, 1), (256, 2), (512, 2), (1024, 2)), _bottleneck)


NETWORKS: dict[str, Callable[[Shape, Options], keras.Model]] = {
    "published": published,
    "residual": residual,
    "residual-v2": residual_v2,
}


def _residual(
    shape: Shape,
    options: Options,
    name: str,
    stages: tuple[tuple[int, int], ...],
    block: Callable[[Tensor, int, int], Tensor],
) -> keras.Model:
    """Two blocks in each stage of (maps, stride), after a stem that halves the image twice."""
    inputs = keras.Input(shape)
    x = layers.Rescaling(1 / 127.5, offset=-1)(inputs)
    x = layers.Conv2D(24, 5, strides=2, padding="same", use_bias=False)(x)
    x = layers.MaxPooling2D(3, strides=2, padding="same")(x)
    for filters, stride in stages:
        x = block(block(x, filters, stride), filters, 1)
    x = layers.Activation("relu")(_normalised(x))
    x = options.dropped(layers.GlobalAveragePooling2D()(x), 0.2)
    return keras.Model(inputs, options.last(x), name=name)


def _block(x: Tensor, filters: int, stride: int) -> Tensor:
    active = _active(x)
    shortcut = _shortcut(x, active, filters, stride)
    y = layers.Conv2D(filters, 3, strides=stride, padding="same", use_bias=False)(active)
    return layers.Add()([shortcut, layers.Conv2D(filters, 3, padding="same", use_bias=False)(_active(y))])


def _bottleneck(x: Tensor, filters: int, stride: int) -> Tensor:
    active = _active(x)
    shortcut = _shortcut(x, active, filters, stride)
    y = layers.Conv2D(filters // 4, 1, use_bias=False)(active)
    y = layers.Conv2D(filters // 4, 3, strides=stride, padding="same", use_bias=False)(_active(y))
    return layers.Add()([shortcut, layers.Conv2D(filters, 1, use_bias=False)(_active(y))])


def _shortcut(x: Tensor, active: Tensor, filters: int, stride: int) -> Tensor:
    """`x` itself where its shape stays, else a projection of what the block sees of it."""
    plain = stride == 1 and x.shape[-1] == filters
    return x if plain else layers.Conv2D(filters, 1, strides=stride, use_bias=False)(active)


def _active(x: Tensor) -> Tensor:
    return layers.Activation("relu")(_normalised(x))


def _normalised(x: Tensor) -> Tensor:
    # 0.9 and not 0.99: moving figures must be right after the few hundred steps of a small hospital's corpus
    return layers.BatchNormalization(momentum=0.9)(x)
