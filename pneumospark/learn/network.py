"""Networks made of others: pixels (n, height, width, channels) of 0..255, or features (n, k), to probabilities."""

from collections.abc import Iterator, Sequence

import keras
from keras import layers

from pneumospark.errors import ConfigError
from pneumospark.learn.cnn import PLAIN, Options, Shape


def head(shape: Shape, options: Options = PLAIN) -> keras.Model:
    """One hidden layer on extracted features (n, k)."""
    inputs = keras.Input(shape)
    x = layers.Dense(64, activation="relu")(layers.BatchNormalization(momentum=0.9)(inputs))
    return keras.Model(inputs, options.last(options.dropped(x, 0.2)), name="head")


def finetuned(backbone: keras.Model, shape: Shape, frozen: float, options: Options = PLAIN) -> keras.Model:
    """A backbone whose weights learn on, but for the first share `frozen` of its layers, and the outputs on top.

    Batch normalisation keeps its ImageNet figures throughout: those of a batch of 32 X-rays would be too rough, and it
    is what lets the same network serve batches of any size. Raises ConfigError as `feature_extractor` does.
    """
    extractor = feature_extractor(backbone, shape)  # it calls the backbone with training=False
    inputs = keras.Input(shape)
    x = options.dropped(extractor(inputs), 0.3)
    network = keras.Model(inputs, options.last(x), name="finetuned")
    freeze(network, frozen)
    return network


def freeze(network: keras.Model, frozen: float) -> None:
    """Let a network of `finetuned` learn but for the first share `frozen` of its backbone's layers; 1: its head alone.

    It must be compiled anew after this.
    """
    extractor = next(layer for layer in network.layers if isinstance(layer, keras.Model))
    headless = next(layer for layer in extractor.layers if isinstance(layer, keras.Model))
    headless.trainable = True  # and with it what is within
    leaves = list(_leaves(headless))
    fixed = round(frozen * len(leaves))
    for index, layer in enumerate(leaves):
        layer.trainable = index >= fixed and not isinstance(layer, layers.BatchNormalization)


def _leaves(model: keras.Model) -> Iterator[keras.Layer]:
    """The layers of a model, and of the models within it: the backbone may be a network of ours, with one in it."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _leaves(layer)
        else:
            yield layer


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
    """The model without its last layer where that gives probabilities, also within the head of a `composed` one."""
    last = model.layers[-1]
    if model.name == "composed":
        inputs = keras.Input(model.input_shape[1:])
        return keras.Model(inputs, _headless(last)(model.layers[-2](inputs)))
    return (
        keras.Model(model.input, last.input)
        if getattr(last, "activation", None) in (keras.activations.sigmoid, keras.activations.softmax)
        else model
    )
