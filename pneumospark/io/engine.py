"""A shipped model on an executor: loaded once for each Python worker, on the cores or the GPU of its task."""

import functools
import gc
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyspark import SparkContext, SparkFiles, TaskContext

from pneumospark.errors import BundleError
from pneumospark.io.bundle import MODEL, Bundle, load_model
from pneumospark.io.engines import Forward, openvino_forward, openvino_version, rate, tensorflow_forward

MEASURED_FROM = 10_000
"""Files from which `auto` measures: it takes some 20 s, most of it to load TensorFlow, which fewer do not win back."""

MEASURED_FOR = 1.0
"""Seconds of each engine."""


def choose(context: SparkContext, asked: str, bundle: Bundle, shipped: str, files: int) -> str:
    """The engine to score so many files with; `shipped` is the name of the bundle's folder on the executors.

    Raises BundleError where OpenVINO was asked for and the bundle has no form for it, or an executor no such package.
    """
    if asked == "tensorflow":
        return asked
    has_form, has_gpu = (
        bool(bundle.facts.get("openvino")),
        bool(context.getConf().get("spark.task.resource.gpu.amount")),
    )
    if asked == "auto" and (has_gpu or not has_form):
        return "tensorflow"
    if not has_form:
        raise BundleError("--engine openvino: this bundle was made without it; tensorflow runs every bundle")
    if not _on_executor(context, lambda: openvino_version() or ""):
        if asked == "auto":
            return "tensorflow"
        raise BundleError("--engine openvino: an executor's Python lacks the package; pip install openvino there")
    if asked == "openvino" or files < MEASURED_FROM:
        return "openvino"
    rates = measured(context, shipped, bundle.spec.shape)
    return max(rates, key=rates.__getitem__)


def measured(context: SparkContext, shipped: str, shape: tuple[int, ...]) -> dict[str, float]:
    """Images a second of each engine on a core of an executor, by the bundle shipped under a name."""
    ask = {engine: functools.partial(_measured_apart, engine, shipped, shape) for engine in FORWARDS}
    return {engine: float(_on_executor(context, question)) for engine, question in ask.items()}


def make_predict(shipped: str, engine: str = "tensorflow") -> Callable[[NDArray[np.uint8]], NDArray[np.float64]]:
    """On an executor: (n, height, width, channels) uint8 -> (n, k) outputs, by the model shipped under a name."""
    forward = _loaded(SparkFiles.get(shipped), engine)
    return lambda pixels: forward(pixels).astype(np.float64)


def make_extract(shipped: str, shape: tuple[int, ...]) -> Callable[[NDArray[np.object_]], NDArray[np.float32]]:
    """On an executor: (n,) bytes, each the pixels of one image of `shape` -> (n, k) features, by a shipped backbone."""
    forward = _loaded(SparkFiles.get(shipped), "tensorflow")
    return lambda pixels: forward(np.stack([np.frombuffer(image, np.uint8).reshape(shape) for image in pixels]))


def load_keras(shipped: str) -> Any:
    """On an executor: the Keras network of the model shipped under a name, whichever engine predicts by it."""
    task = TaskContext.get()
    return _keras(Path(SparkFiles.get(shipped)), task.cpus() if task else 1)


@functools.lru_cache(maxsize=1)  # one model in memory for each Python worker, which serves many tasks
def _loaded(folder: str, engine: str) -> Forward:
    task = TaskContext.get()
    threads = task.cpus() if task else 1
    if task and "gpu" in task.resources():
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(task.resources()["gpu"].addresses)
    forward = FORWARDS[engine](Path(folder), threads)
    # Spark's worker collects garbage after each task, and would walk over the engine's many objects each time: 0.2 s.
    gc.collect()
    gc.freeze()
    return forward


def _tensorflow(folder: Path, threads: int) -> Forward:
    return tensorflow_forward(_keras(folder, threads))


@functools.lru_cache(maxsize=1)  # TensorFlow's threads can be set once
def _keras(folder: Path, threads: int) -> Any:
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)  # else each worker takes every core for itself
    tf.config.threading.set_inter_op_parallelism_threads(1)
    for gpu in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(gpu, True)  # several workers may share it
    return load_model(folder / MODEL)


FORWARDS: dict[str, Callable[[Path, int], Forward]] = {"tensorflow": _tensorflow, "openvino": openvino_forward}


def _on_executor(context: SparkContext, ask: Callable[[], str]) -> str:
    """The answer to a question, asked in one task."""

    def answer(_: Iterable[int]) -> Iterator[str]:
        yield ask()

    return str(context.parallelize([0], 1).mapPartitions(answer).first())


def _measured_apart(engine: str, shipped: str, shape: tuple[int, ...]) -> str:
    """Images a second of an engine, in a process of its own, so that the worker keeps nothing of it in its memory."""
    threads: Any = TaskContext.get().cpus()  # type: ignore[union-attr]
    command = [sys.executable, "-m", __name__, engine, SparkFiles.get(shipped), threads, *shape]
    path = os.pathsep.join(sys.path)  # the shipped package is on it
    done = subprocess.run(
        [str(part) for part in command],
        env=os.environ | {"PYTHONPATH": path, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()[-1]


if __name__ == "__main__":
    _, name, folder, cores, *sides = sys.argv
    print(rate(FORWARDS[name](Path(folder), int(cores)), tuple(int(side) for side in sides), MEASURED_FOR))
