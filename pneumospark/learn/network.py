"""The networks, by name: pixels (n, height, width, channels) in 0..255, or features (n, k), to probabilities (n, 1)."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import layers

from pneumospark.errors import ConfigError

Tensor = Any
Shape = tuple[int, ...]


def published(shape: Shape) -> keras.Model:
    """The CNN of Adepu and Bejjanki (2023), for 500 x 500 grey: five 3x3 convolutions and 2x2 poolings, dense 128, 64.

    Valid padding gives 498, 249, 247, 123, 121, 60, 58, 29, 27, 13 pixels a side and 13 x 13 x 64 = 10,816 features, as
    the paper counts them. Other sizes make the same stack; below 94 pixels a side nothing would be left to pool.
    """
    if min(shape[:2]) < 94:
        raise ConfigError(f"--network published: expected images of at least 94 x 94, got {shape[0]} x {shape[1]}")
    inputs = keras.Input(shape)
    x = layers.Rescaling(1 / 255)(inputs)
    for filters in (32, 32, 32, 64, 64):
        x = layers.Conv2D(filters, 3, activation="relu")(x)
        x = layers.MaxPooling2D(2)(x)
    x = layers.Flatten()(x)
    for units in (128, 64):
        x = layers.Dense(units, activation="relu")(x)
    return keras.Model(inputs, layers.Dense(1, activation="sigmoid")(x), name="published")


def residual(shape: Shape) -> keras.Model:
    """A small residual network of pre-activation blocks (He et al. 2016, arXiv:1603.05027): 1.0 M parameters."""
    inputs = keras.Input(shape)
    x = layers.Rescaling(1 / 127.5, offset=-1)(inputs)
    x = layers.Conv2D(24, 5, strides=2, padding="same", use_bias=False)(x)
    x = layers.MaxPooling2D(3, strides=2, padding="same")(x)
    for filters, stride in ((32, 1), (64, 2), (96, 2), (128, 2)):
        x = _block(_block(x, filters, stride), filters, 1)
    x = layers.Activation("relu")(_normalised(x))
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dropout(0.2)(x)
    return keras.Model(inputs, layers.Dense(1, activation="sigmoid")(x), name="residual")


def head(shape: Shape) -> keras.Model:
    """One hidden layer on extracted features (n, k)."""
    inputs = keras.Input(shape)
    x = _normalised(inputs)
    x = layers.Dropout(0.2)(layers.Dense(64, activation="relu")(x))
    return keras.Model(inputs, layers.Dense(1, activation="sigmoid")(x), name="head")


def finetuned(backbone: keras.Model, shape: Shape, frozen: float) -> keras.Model:
    """A backbone whose weights learn on, but for the first share `frozen` of its layers, and one unit on top.

    Batch normalisation keeps its ImageNet figures throughout: those of a batch of 32 X-rays would be too rough, and it
    is what lets the same network serve batches of any size. Raises ConfigError as `feature_extractor` does.
    """
    extractor = feature_extractor(backbone, shape)  # it calls the backbone with training=False
    headless = next(layer for layer in extractor.layers if isinstance(layer, keras.Model))
    fixed = round(frozen * len(headless.layers))
    for index, layer in enumerate(headless.layers):
        layer.trainable = index >= fixed and not isinstance(layer, layers.BatchNormalization)
    inputs = keras.Input(shape)
    x = layers.Dropout(0.3)(extractor(inputs))
    return keras.Model(inputs, layers.Dense(1, activation="sigmoid")(x), name="finetuned")


def averaged(members: Sequence[keras.Model], shape: Shape) -> keras.Model:
    """One network that gives the sigmoid of the mean of its members' logits; it takes the members for itself.

    The mean of logits and not of probabilities: then what is folded into the last layer calibrates the whole.
    """
    inputs = keras.Input(shape)
    logits = []
    for index, member in enumerate(members):
        member.name = f"member{index}"
        last = member.layers[-1]
        while isinstance(last, keras.Model):
            last = last.layers[-1]
        last.activation = keras.activations.linear
        logits.append(member(inputs))
    mean = keras.initializers.Constant(1 / len(members))
    outputs = layers.Dense(1, activation="sigmoid", kernel_initializer=mean)(layers.Concatenate()(logits))
    return keras.Model(inputs, outputs, name="averaged")


NETWORKS: dict[str, Callable[[Shape], keras.Model]] = {"published": published, "residual": residual}


def feature_extractor(model: keras.Model, shape: Shape) -> keras.Model:
    """Pixels of `shape` to a flat feature vector, from any image model.

    A model with a head of ours (sigmoid) loses it; maps of features are averaged over space; a grey image is repeated
    for a model of three channels. The model gets 0..255 and must do its own scaling. Raises ConfigError where it wants
    another size.
    """
    wanted = model.input_shape[1:]
    if len(wanted) != 3 or any(want not in (None, got) for want, got in zip(wanted[:2], shape[:2], strict=True)):
        raise ConfigError(
            f"backbone {model.name}: expects images of {wanted}, the prepared ones are {shape}: "
            "set image.height and image.width"
        )
    inputs = keras.Input(shape)
    x = inputs
    if wanted[2] == 3 and shape[2] == 1:
        x = layers.Concatenate()([x, x, x])
    elif wanted[2] != shape[2]:
        raise ConfigError(f"backbone {model.name}: expects {wanted[2]} channels, the prepared images have {shape[2]}")
    x = _headless(model)(x, training=False)
    if len(x.shape) == 4:
        x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Flatten()(x), name="features")


def composed(extractor: keras.Model, trained_head: keras.Model) -> keras.Model:
    """One model from pixels to probability, so that a bundle trained on features scores images on its own."""
    inputs = keras.Input(extractor.input_shape[1:])
    return keras.Model(inputs, trained_head(extractor(inputs)), name="composed")


def _headless(model: keras.Model) -> keras.Model:
    """The model without its last layer where that is a sigmoid, also within the head of a `composed` one."""
    last = model.layers[-1]
    if model.name == "composed":
        inputs = keras.Input(model.input_shape[1:])
        return keras.Model(inputs, _headless(last)(model.layers[-2](inputs)))
    return (
        keras.Model(model.input, last.input)
        if getattr(last, "activation", None) is keras.activations.sigmoid
        else model
    )


def _block(x: Tensor, filters: int, stride: int) -> Tensor:
    active = layers.Activation("relu")(_normalised(x))
    plain = stride == 1 and x.shape[-1] == filters
    shortcut = x if plain else layers.Conv2D(filters, 1, strides=stride, use_bias=False)(active)
    y = layers.Conv2D(filters, 3, strides=stride, padding="same", use_bias=False)(active)
    y = layers.Activation("relu")(_normalised(y))
    return layers.Add()([shortcut, layers.Conv2D(filters, 3, padding="same", use_bias=False)(y)])


def _normalised(x: Tensor) -> Tensor:
    # 0.9 and not 0.99: moving figures must be right after the few hundred steps of a small hospital's corpus
    return layers.BatchNormalization(momentum=0.9)(x)
