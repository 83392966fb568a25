"""A shipped model on an executor, loaded once for each Python worker, on the cores of its task."""

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pneumospark.io.bundle import MODEL, load_model

Forward = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


def make_predict(shipped: str) -> Callable[[NDArray[np.uint8]], NDArray[np.float64]]:
    """On an executor: (n, height, width, channels) uint8 -> (n,) probability, by the model shipped under a name."""
    forward = _loaded(_shipped(shipped))
    return lambda pixels: forward(pixels)[:, 0].astype(np.float64)


def make_extract(shipped: str, shape: tuple[int, ...]) -> Callable[[NDArray[np.object_]], NDArray[np.float32]]:
    """On an executor: (n,) bytes, each the pixels of one image of `shape` -> (n, k) features, by a shipped backbone."""
    forward = _loaded(_shipped(shipped))
    return lambda pixels: forward(np.stack([np.frombuffer(image, np.uint8).reshape(shape) for image in pixels]))


def _shipped(name: str) -> str:
    from pyspark import SparkFiles

    return str(SparkFiles.get(name))


@functools.lru_cache(maxsize=1)  # one model in memory for each Python worker, which serves many tasks
def _loaded(folder: str) -> Forward:
    import tensorflow as tf
    from pyspark import TaskContext

    task = TaskContext.get()
    threads = task.cpus() if task else 1
    tf.config.threading.set_intra_op_parallelism_threads(threads)  # else each worker takes every core for itself
    tf.config.threading.set_inter_op_parallelism_threads(1)
    forward = tf.function(load_model(Path(folder) / MODEL), reduce_retracing=True)
    return lambda pixels: np.asarray(forward(tf.constant(pixels)))
