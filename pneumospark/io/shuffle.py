"""The order of rows within the feed's buffer: row groups mixed, and cut into batches."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = tuple[NDArray[Any], NDArray[np.float32]]  # x: pixels or features of a row (n, k); y (n,) or (n, outputs)


@dataclass(frozen=True)
class Mixture:
    """Rows of some row groups in an order of their own; a row is copied when it is taken, and not before."""

    groups: list[Rows]
    order: NDArray[np.int64]  # (n,) of 0..n-1, over the rows of all groups one after the other

    def take(self, start: int, stop: int) -> Rows:
        """Rows `start` to `stop` of the order, or to its end."""
        chosen = self.order[start:stop]
        ends = np.cumsum([len(y) for _, y in self.groups])
        places = np.searchsorted(ends, chosen, side="right")
        x, y = (np.empty((len(chosen), *part.shape[1:]), part.dtype) for part in self.groups[0])
        for at, (place, row) in enumerate(zip(places.tolist(), (chosen - ends[places]).tolist(), strict=True)):
            x[at], y[at] = self.groups[place][0][row], self.groups[place][1][row]  # `row` counts from the group's end
        return x, y


def mixed(groups: list[Rows], random: np.random.Generator) -> Mixture:
    """Rows of several row groups in a random order."""
    return Mixture(groups, random.permutation(sum(len(y) for _, y in groups)))


def cut(mixtures: Iterator[Mixture], sizes: Iterable[int]) -> Iterator[Rows]:
    """The same rows in the same order, so many at a time as `sizes` says; what is left at the end is the last batch.

    What is beyond a last size goes nowhere: the audit counts it.
    """
    mixture, at = next(mixtures, None), 0
    for size in sizes:
        parts: list[Rows] = []
        while mixture and (lacking := size - sum(len(y) for _, y in parts)):
            parts.append(mixture.take(at, at + lacking))
            at += len(parts[-1][1])
            if at == len(mixture.order):
                mixture, at = next(mixtures, None), 0
        if not parts:
            return
        x, y = parts[0] if len(parts) == 1 else (np.concatenate(part) for part in zip(*parts, strict=True))
        yield x, y
    for _ in mixtures:
        pass
