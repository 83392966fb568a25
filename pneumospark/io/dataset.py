"""The training feed: a table's rows through Petastorm into tf.data, with a proof that an epoch saw each row once."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from petastorm import make_batch_reader
from pyarrow.filesystem import DaskFileSystem

from pneumospark.errors import ConfigError, LostRowsError
from pneumospark.io.files import Store, scheme_of
from pneumospark.io.stock import LABELS, VERSION_COLUMNS, Census, Stock, counts
from pneumospark.labels import PNEUMONIA

ROW_GROUPS_AHEAD = 2
"""Petastorm's own 50 row groups of 24 MB each would be more than a gigabyte of prefetched pixels."""


@dataclass
class Feed:
    """The rows of one split, epoch after epoch; `shape` is that of one row's pixels (uint8) or features (float32).

    `seen` holds what each finished pass through Petastorm gave. Without a seed rows come in the order of the files;
    with one their order follows from it and the epoch's number. `done` epochs are behind a training that goes on.
    """

    stock: Stock
    split: str
    shape: tuple[int, ...]
    store: Store
    seed: int | None = None
    done: int = 0
    seen: list[Census] = field(default_factory=list)

    def batches(self, batch_size: int, shuffle_rows: int = 0, devices: int = 1) -> tf.data.Dataset:
        """x (n, *shape) and y (n,) float32 of 0 normal or 1 pneumonia; a pass over it is an epoch.

        n is `batch_size`, or the next smaller number with which the last batch, too, has a row for each of `devices`.
        """
        signature = (tf.TensorSpec((None,), tf.string), tf.TensorSpec((None,), tf.float32))
        if self.stock.column == "features":
            signature = (tf.TensorSpec((None, *self.shape), tf.float32), signature[1])
        rows = tf.data.Dataset.from_generator(lambda: self._shuffled(shuffle_rows), output_signature=signature)
        size = _fitting(batch_size, self.stock.census[self.split].rows, devices)
        return rows.rebatch(size).map(self._decoded).prefetch(2)

    def audit(self) -> None:
        """Raise LostRowsError unless the last finished pass gave exactly the split's rows."""
        expected, seen = self.stock.census[self.split], self.seen[-1] if self.seen else Census()
        if seen != expected:
            raise LostRowsError(
                f"{self.stock.uri}, split {self.split}: expected {expected.rows} rows in an epoch, "
                f"Petastorm gave {seen.rows}" + (", not the same ones" if seen.rows == expected.rows else "")
            )

    def _shuffled(self, rows: int) -> Iterator[tuple[Any, NDArray[np.float32]]]:
        """The row groups of one pass, so many at a time that they hold `rows` rows, and these in another order."""
        if self.seed is None or not rows:
            yield from self._epoch()
            return
        random = np.random.default_rng((self.seed, self.done + len(self.seen)))
        held: list[tuple[Any, NDArray[np.float32]]] = []
        for group in self._epoch():
            held.append(group)
            if sum(len(y) for _, y in held) >= rows:
                yield _mixed(held, random)
                held = []
        if held:
            yield _mixed(held, random)

    def _epoch(self) -> Iterator[tuple[Any, NDArray[np.float32]]]:
        """One pass: the row groups in an order of its own, filtered to the feed's rows."""
        census, column, key = Census(), self.stock.column, VERSION_COLUMNS[self.stock.column]
        with make_batch_reader(
            _petastorm_url(self.stock.uri),
            schema_fields=["image_id", "run_id", "label", key, column],
            filters=[("split", "=", self.split)],
            reader_pool_type="thread",
            workers_count=1,  # one keeps the order; a training never waits for reading
            results_queue_size=ROW_GROUPS_AHEAD,
            shuffle_row_groups=self.seed is not None,
            seed=None if self.seed is None else self.seed + self.done + len(self.seen),
            filesystem=_petastorm_filesystem(self.stock.uri, self.store),
        ) as reader:
            for group in reader:
                wanted = np.isin(group.label, LABELS) & (getattr(group, key) == self.stock.version)
                wanted &= counts(group.run_id, group.image_id, self.stock.stale)
                census = census.plus(group.image_id[wanted])
                if wanted.any():  # features of another backbone may have another length
                    yield getattr(group, column)[wanted], (group.label[wanted] == PNEUMONIA).astype(np.float32)
        self.seen.append(census)

    def _decoded(self, x: tf.Tensor, y: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        if self.stock.column == "pixels":
            x = tf.reshape(tf.io.decode_raw(x, tf.uint8), (-1, *self.shape))
        return x, y


def _mixed(groups: list[tuple[Any, NDArray[np.float32]]], random: np.random.Generator) -> tuple[Any, Any]:
    x, y = (np.concatenate(parts) for parts in zip(*groups, strict=True))
    order = random.permutation(len(y))
    return x[order], y[order]


def _fitting(batch_size: int, rows: int, devices: int) -> int:
    # MirroredStrategy gives a device no rows where a batch has fewer rows than devices: batch normalisation then fails
    for size in range(batch_size, devices - 1, -1):
        if not 0 < rows % size < devices:
            return size
    raise ConfigError(
        f"train.batch_size: expected one that gives each of {devices} devices a row of every batch of {rows} rows, "
        f"got {batch_size}"
    )


def _petastorm_url(uri: str) -> str:
    scheme, _, rest = uri.partition("://")
    return f"s3://{rest}" if scheme in ("s3a", "s3n") else uri


def _petastorm_filesystem(uri: str, store: Store) -> Any:
    """What Petastorm needs to read a remote store: fsspec behind the interface of pyarrow 14; None for local files."""
    if scheme_of(uri) == "file":
        return None
    with warnings.catch_warnings():  # that pyarrow 15 has no such class: why 14 is pinned, and no news to a user
        warnings.simplefilter("ignore", FutureWarning)
        return _Remote(store.filesystem(uri))


class _Remote(DaskFileSystem):  # type: ignore[misc]
    """An fsspec file system as pyarrow's legacy readers want it."""

    def isdir(self, path: str) -> bool:
        return bool(self.fs.isdir(path))

    def isfile(self, path: str) -> bool:
        return bool(self.fs.isfile(path))

    def ls(self, path: str) -> list[str]:
        return [str(name) for name in self.fs.ls(path, detail=False)]

    def exists(self, path: str) -> bool:
        return bool(self.fs.exists(path))

    def open(self, path: str, mode: str = "rb") -> Any:
        return self.fs.open(path, mode)

    def walk(self, path: str) -> Iterator[tuple[str, list[str], list[str]]]:
        """Folders and files; zero-byte objects are markers that S3 writers leave, not Parquet files."""
        for root, folders, files in self.fs.walk(path, detail=True):
            yield root, list(folders), [name for name, info in files.items() if info["size"]]
