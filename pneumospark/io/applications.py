"""Keras applications as backbones: by name, for grey levels of 0..255, with the weights that Keras fetches."""

import sys
from typing import Any

import numpy as np

from pneumospark.errors import BundleError


def application(name: str, weights: str | None = "imagenet") -> Any:
    """A Keras application without its top, from (n, height, width, 3) of 0..255, three times the same grey.

    What its `preprocess_input` does is a layer of it: some want -1..1, some a mean taken off, some nothing. Raises
    BundleError for a name that Keras does not know, and where the weights could not be fetched.
    """
    import keras

    if not callable(made := getattr(keras.applications, name, None)):
        known = sorted(each for each in dir(keras.applications) if each[0].isupper())
        raise BundleError(
            f"--backbone {name}: expected a .keras file, a bundle, or a Keras application: {', '.join(known)}"
        )
    inputs = keras.Input((None, None, 3))
    scaled = keras.layers.Rescaling(*scaling(sys.modules[made.__module__].preprocess_input))(inputs)
    try:
        return made(include_top=False, weights=weights, input_tensor=scaled)
    except Exception as error:  # a plain Exception is what Keras raises where a download fails
        raise BundleError(
            f"--backbone {name}: its weights could not be fetched ({error}). On a machine with a connection run "
            f"`python -m pneumospark backbone keras:{name} --out {name}.keras`, and give that file here"
        ) from error


def scaling(preprocess: Any) -> tuple[list[float], list[float]]:
    """Scale and offset of each channel of a grey image, which is all that a `preprocess_input` of Keras is.

    Where it turns RGB to BGR a grey image stays as it is.
    """
    black, white = (preprocess(np.full((1, 1, 1, 3), level, np.float32)).ravel() for level in (0, 255))
    return ((white - black) / 255).tolist(), black.tolist()
