"""The order of rows within the feed's buffer: row groups mixed, and cut into batches."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Rows = tuple[NDArray[Any], NDArray[np.float32]]  # x: pixels or features of a row (n, k); y (n,) or (n, outputs)


@dataclass(frozen=True)
class Mixture:
    """Rows of some row groups in an order of their own; a row is copied when it is taken, and not before."""

    groups: list[Rows]
    order: NDArray[np.int64]  # (n,) of 0..n-1, over the rows of all groups one after the other

    def fill(self, x: NDArray[Any], y: NDArray[np.float32], start: int) -> int:
        """Copy the rows from `start` of the order on into x and y; how many there were, or fitted."""
        chosen = self.order[start : start + len(y)]
        ends = np.cumsum([len(y) for _, y in self.groups])
        places = np.searchsorted(ends, chosen, side="right")
        for at, (place, row) in enumerate(zip(places.tolist(), (chosen - ends[places]).tolist(), strict=True)):
            x[at], y[at] = self.groups[place][0][row], self.groups[place][1][row]  # `row` counts from the group's end
        return len(chosen)


def _empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """As numpy's, on a multiple of 64 bytes, from where TensorFlow takes an array as it lies, without a copy.

    And of Arrow's allocator, which the feed has keep pages for the next batch: glibc gives them back each time.
    """
    return np.frombuffer(pa.allocate_buffer(math.prod(shape) * dtype.itemsize), dtype).reshape(shape)


def mixed(groups: list[Rows], random: np.random.Generator) -> Mixture:
    """Rows of several row groups in a random order."""
    return Mixture(groups, random.permutation(sum(len(y) for _, y in groups)))


def cut(mixtures: Iterator[Mixture], sizes: Iterable[int]) -> Iterator[Rows]:
    """The same rows in the same order, so many at a time as `sizes` says; what is left at the end is the last batch.

    What is beyond a last size goes nowhere: the audit counts it.
    """
    mixture, at = next(mixtures, None), 0
    for size in sizes:
        if not mixture:
            return
        x, y = (_empty((size, *part.shape[1:]), part.dtype) for part in mixture.groups[0])
        held = 0
        while mixture and held < size:
            filled = mixture.fill(x[held:], y[held:], at)
            held, at = held + filled, at + filled
            if at == len(mixture.order):
                mixture, at = next(mixtures, None), 0
        yield x[:held], y[:held]
    for _ in mixtures:
        pass
