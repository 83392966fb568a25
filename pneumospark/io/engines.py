"""What runs a trained network: TensorFlow, or OpenVINO from a form of the same network that was compared with it."""

import hashlib
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

Forward = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""(n, height, width, channels) uint8 -> (n, k) float32."""

OPENVINO_FILES = ("openvino.xml", "openvino.bin")
LARGEST_DIFFERENCE = 1e-3
"""Of a probability on any image: what may separate the two engines. Seen: 2e-5. Float32 in both; no quantisation."""

BATCH = 32


@dataclass(frozen=True)
class OpenvinoForm:
    """A network's files for OpenVINO, and how near its probabilities are to TensorFlow's."""

    files: dict[str, bytes]
    facts: dict[str, Any]


def openvino_form(model: Any, pixels: NDArray[np.uint8]) -> OpenvinoForm:
    """The form for OpenVINO of a Keras model that takes images, compared on real ones, (n, height, width, channels).

    Raises ImportError without the package openvino, ValueError where the outputs differ by more than
    LARGEST_DIFFERENCE, and whatever Keras raises for a layer that it cannot export.
    """
    openvino = _openvino()
    with TemporaryDirectory() as name:
        folder = Path(name)
        model.export(str(folder / OPENVINO_FILES[0]), format="openvino", verbose=False)
        ours, theirs = tensorflow_forward(model), openvino_forward(folder)
        batches = [pixels[start : start + BATCH] for start in range(0, len(pixels), BATCH)]
        difference = max(float(np.max(np.abs(ours(batch) - theirs(batch)))) for batch in batches)
        files = {file: (folder / file).read_bytes() for file in OPENVINO_FILES}
    if not difference <= LARGEST_DIFFERENCE:
        raise ValueError(f"expected the outputs of TensorFlow to {LARGEST_DIFFERENCE}, found {difference:.2g} between")
    digests = {file: hashlib.sha256(content).hexdigest() for file, content in files.items()}
    facts = {"files": digests, "largest_difference": difference, "images": len(pixels), "version": openvino.__version__}
    return OpenvinoForm(files, facts)


def tensorflow_forward(model: Any) -> Forward:
    """A Keras model as one frozen graph: 1.2 times as fast on one core as the compiled model with variables."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    signature = tf.TensorSpec((None, *model.input_shape[1:]), tf.float32)
    graph = tf.function(lambda x: model(x, training=False)).get_concrete_function(signature)
    frozen = convert_variables_to_constants_v2(graph)
    return lambda pixels: np.asarray(frozen(tf.constant(pixels, tf.float32))[0])


def openvino_forward(folder: Path, threads: int = 0) -> Forward:
    """The files of an OpenvinoForm in a folder, on so many threads (0: all cores), in float32 on every processor.

    Without pinning: several processes of one thread each would all be pinned to the same core.
    """
    settings = {
        "INFERENCE_PRECISION_HINT": "f32",  # else bfloat16 where a processor has it, and a node's scores are its own
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,
    }
    compiled = _openvino().Core().compile_model(folder / OPENVINO_FILES[0], "CPU", settings)
    request = compiled.create_infer_request()
    return lambda pixels: np.array(request.infer(pixels.astype(np.float32))[0])


def rate(forward: Forward, shape: tuple[int, ...], seconds: float) -> float:
    """Images a second of a forward pass over batches of any pixels, warmed up first."""
    pixels = np.random.default_rng(0).integers(0, 256, (BATCH, *shape), dtype=np.uint8)
    forward(pixels)
    started = time.perf_counter()
    done = 0
    while (taken := time.perf_counter() - started) < seconds:
        forward(pixels)
        done += BATCH
    return done / taken


def _openvino() -> Any:
    # OpenVINO's converter reports its use to its makers where this package, which it can do without, is there.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


def openvino_version() -> str | None:
    """The version that is installed, None where there is none."""
    try:
        return version("openvino")
    except ImportError:  # PackageNotFoundError is one
        return None
