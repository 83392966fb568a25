"""Mixed precision while a network learns; what it has learnt, and every bundle, is float32."""

from collections.abc import Iterator
from contextlib import contextmanager

import keras
import tensorflow as tf

MIXED = "mixed_bfloat16"
"""Not float16: bfloat16 has the range of float32, and so no loss has to be scaled."""

AMPERE = (8, 0)
"""From this compute capability on an NVIDIA GPU multiplies bfloat16 (CUDA C++ Programming Guide, arithmetic types)."""


def policy(precision: str) -> str:
    """Keras' name for what `precision` says: "mixed", "float32", or "auto", mixed where every GPU has it, never on CPU.

    A CPU without AMX multiplies bfloat16 more slowly than float32.
    """
    gpus = tf.config.list_physical_devices("GPU")
    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    able = bool(gpus) and all(found.get("compute_capability", (0, 0)) >= AMPERE for found in details)
    return MIXED if precision == "mixed" or (precision == "auto" and able) else "float32"


@contextmanager
def computing_in(name: str, network: keras.Model) -> Iterator[None]:
    """Every layer of the network but the last computes by a policy; afterwards all are as they were.

    Weights are float32 all the time, and so are the probabilities, of which a loss takes the logarithm.
    """
    leaves = [layer for layer in network._flatten_layers() if not isinstance(layer, keras.Model)]
    changed = [] if name == "float32" else [layer for layer in leaves if layer is not network.layers[-1]]
    before = [layer.dtype_policy for layer in changed]
    for layer in changed:
        layer.dtype_policy = keras.DTypePolicy(name)
    try:
        yield
    finally:
        for layer, usual in zip(changed, before, strict=True):
            layer.dtype_policy = usual
