"""The training feed: a table's rows through Petastorm into tf.data, with a proof that an epoch saw each row once."""

import functools
import json
import math
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import astuple, dataclass, field
from itertools import repeat
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tensorflow as tf
from numpy.typing import NDArray
from petastorm import make_batch_reader
from petastorm.workers_pool import EmptyResultError

from pneumospark.errors import ConfigError, TableError
from pneumospark.io.copies import Copies
from pneumospark.io.files import Store, scheme_of
from pneumospark.io.remote import Disk, Remote
from pneumospark.io.shuffle import Mixture, Rows, cut, mixed
from pneumospark.io.stock import VERSION_COLUMNS, Census, Stock, columns_of, counts, told

AHEAD_BYTES = 128 * 2**20
"""Read ahead of the training at most, in whole row groups: one or two, Petastorm's one worker takes no more."""

HANDED_BYTES = 16 * 2**20
"""Handed to TensorFlow at a time, in whole batches: eight cost no more than one, and one as much as to read it."""

EVEN = 0.75
"""Rows of the smallest shard by those of the largest from which on Petastorm's own shards are even enough."""


@dataclass(frozen=True)
class Shard:
    """Which of several readers of one split this is."""

    index: int
    count: int


ALONE = Shard(0, 1)


@dataclass
class Feed:
    """The rows of one split, epoch after epoch; `shape` is that of one row's pixels (uint8) or features (float32).

    `seen` holds what each finished pass through Petastorm gave, and `audited` of these were audited. Without a seed
    rows come in the order of the files, and `patients` (n,) says whose those of the last pass were; with one their
    order follows from it and the epoch's number. `done` epochs are behind a training that goes on.

    The `shard`s of a split together give each row once an epoch, in equally many batches. Where row groups are many,
    each reads row groups of its own, as Petastorm shards them; batches of the shard with fewer rows are smaller. Where
    they are few, each reads all and gives every n-th row. Files are read from `copies` on this machine, where given.
    """

    stock: Stock
    split: str
    shape: tuple[int, ...]
    store: Store
    seed: int | None = None
    done: int = 0
    shard: Shard = ALONE
    copies: Copies | None = None
    seen: list[Census] = field(default_factory=list)
    audited: int = 0
    patients: NDArray[np.str_] = field(default_factory=lambda: np.array([], str))

    def batches(self, batch_size: int, shuffle_rows: int = 0, devices: int = 1) -> tf.data.Dataset:
        """x (n, *shape) and y (n,) float32 of 0 normal or 1 pneumonia; a pass over it is an epoch.

        For a target of k outputs y is (n, k), UNKNOWN where nobody knows.
        n is `batch_size`, or the next smaller number with which each of `devices` has a row of the last batch, too;
        of several shards the batches that are n-th in each have `batch_size` rows together at most.
        """
        kind = tf.float32 if self.stock.column == "features" else tf.uint8
        outputs = () if self.stock.target.is_binary else (len(self.stock.target.outputs),)
        signature = (tf.TensorSpec((None, *self.shape), kind), tf.TensorSpec((None, *outputs), tf.float32))
        sizes = tuple(self._sizes(batch_size, devices))
        row_bytes = math.prod(self.shape) * kind.size
        together = max(1, HANDED_BYTES // (batch_size * row_bytes))
        handed = [sum(sizes[start : start + together]) for start in range(0, len(sizes), together)]
        rows = tf.data.Dataset.from_generator(lambda: self._batches(handed, shuffle_rows), output_signature=signature)
        options = tf.data.Options()
        # There is nothing to tune, and an epoch's end waits for the tuner, which sleeps for up to a third of a second.
        options.autotune.enabled = False
        return rows.prefetch(1).rebatch(sizes).prefetch(2).with_options(options)

    def audit(self, gather: Callable[[str], list[str]] = lambda said: [said]) -> int:
        """How many rows the last finished pass gave; of several shards together, which `gather` lets speak.

        Raises LostRowsError unless these are exactly the split's rows, and where no pass was finished since the last
        audit.
        """
        mine = self.seen[-1] if len(self.seen) > self.audited else Census()
        self.audited = len(self.seen)
        total = sum((Census(*json.loads(said)) for said in gather(json.dumps(astuple(mine)))), Census())
        self.stock.check(self.split, total)
        return total.rows

    def _sizes(self, batch_size: int, devices: int) -> Iterable[int]:
        """Rows of each batch of this shard: no more than the stock has, or a pass over more would never end."""
        if self.shard.count == 1:
            size = _fitting(batch_size, rows := self.stock.census[self.split].rows, devices)
            return (*repeat(size, rows // size), *([rows % size] if rows % size else []))
        of_shards, index, count = self._shard_rows, self.shard.index, self.shard.count
        if batch_size < count or min(of_shards) < (steps := math.ceil(max(of_shards) / (batch_size // count))):
            raise ConfigError(
                f"train.batch_size: expected one that gives each of {count} workers a row of every batch of "
                f"{sum(of_shards)} rows, got {batch_size}"
            )
        mine = of_shards[index]
        return tuple(mine * (step + 1) // steps - mine * step // steps for step in range(steps))

    @property
    def _shards_of_groups(self) -> int:
        """How many shards of row groups Petastorm makes: as many as there are readers, or one, which all of them read.

        Its own refusal to make more shards than there are row groups never comes to that.
        """
        groups = [group.rows for group in self.stock.groups[self.split]]
        shards = [sum(groups[index :: self.shard.count]) for index in range(self.shard.count)]
        return self.shard.count if min(shards) >= EVEN * max(shards) else 1

    @property
    def _shard_rows(self) -> list[int]:
        count, groups = self.shard.count, [group.rows for group in self.stock.groups[self.split]]
        parts = groups if self._shards_of_groups == count else [1] * sum(groups)
        return [sum(parts[index::count]) for index in range(count)]

    def _batches(self, sizes: Iterable[int], shuffle_rows: int) -> Iterator[Rows]:
        for x, y in cut(self._shuffled(shuffle_rows), sizes):
            yield x.reshape(-1, *self.shape), y

    def _shuffled(self, rows: int) -> Iterator["Mixture"]:
        """The row groups of one pass, so many at a time that they hold `rows` rows, and these in another order."""
        random = np.random.default_rng((self.seed or 0, self.done + len(self.seen)))
        held: list[Rows] = []
        for group in self._epoch():
            if self.seed is None or not rows:
                yield Mixture([group], np.arange(len(group[1])))
                continue
            held.append(group)
            if sum(len(y) for _, y in held) >= rows:
                yield mixed(held, random)
                held = []
        if held:
            yield mixed(held, random)

    def _epoch(self) -> Iterator[Rows]:
        """One pass: the row groups in an order of its own, filtered to the feed's rows, those of this shard."""
        census, column, key = Census(), self.stock.column, VERSION_COLUMNS[self.stock.column]
        shards, passed = self._shards_of_groups, 0
        ahead = AHEAD_BYTES // max(group.bytes for group in self.stock.groups[self.split])
        patients: list[NDArray[np.str_]] = []
        if "mimalloc" in pa.supported_memory_backends():
            # It keeps what a row group has left for the next one, where Arrow's usual one gives it back: new memory
            # costs the kernel more than all that the feed does with an image.
            pa.set_memory_pool(pa.mimalloc_memory_pool())
        with make_batch_reader(
            _petastorm_url(self.stock.uri),
            schema_fields=["image_id", "run_id", "patient_id", "label", key, column, *columns_of(self.stock.target)],
            filters=[("split", "=", self.split), ("run_id", "in", set(self.stock.runs))],
            reader_pool_type="thread",
            workers_count=1,  # one keeps the order; a training never waits for reading
            results_queue_size=1 if ahead < 2 else 3,  # each is followed by word of its end; one more waits outside
            shuffle_row_groups=self.seed is not None,
            seed=None if self.seed is None else self.seed + self.done + len(self.seen),
            filesystem=self._filesystem,
            **({"cur_shard": self.shard.index, "shard_count": shards} if shards > 1 else {}),
        ) as reader:
            for table in _tables(reader):
                facts = {name: table[name].to_numpy() for name in table.column_names if name != column}
                target, of_rows = self.stock.target, told(facts)
                truth = target.truth(*of_rows)
                wanted = target.known(*of_rows) & (facts[key] == self.stock.version)
                wanted &= counts(facts["run_id"], facts["image_id"], self.stock.stale)
                if shards < self.shard.count:
                    numbers, passed = passed + np.cumsum(wanted) - 1, passed + int(wanted.sum())
                    wanted &= numbers % self.shard.count == self.shard.index
                census = census.plus(facts["image_id"][wanted], truth[wanted])
                if self.seed is None:  # an image without a patient is its own
                    patients.append(pc.coalesce(table["patient_id"], table["image_id"]).to_numpy()[wanted])
                if wanted.any():  # features of another backbone may have another length
                    x = table[column] if wanted.all() else table[column].filter(pa.array(wanted))
                    yield _matrix(x, self.stock), truth[wanted]
        self.seen.append(census)
        self.patients = np.concatenate([self.patients[:0], *patients])

    @functools.cached_property
    def _filesystem(self) -> Any:
        """What Petastorm reads the store with, behind the interface of pyarrow 14."""
        with warnings.catch_warnings():  # that pyarrow 15 has no such class: why 14 is pinned, and no news to a user
            warnings.simplefilter("ignore", FutureWarning)
            if scheme_of(self.stock.uri) == "file":
                return Disk()
            return Remote(self.store.filesystem(self.stock.uri), self.copies)


def _tables(reader: Any) -> Iterator[pa.Table]:
    """The row groups that a Petastorm reader gives, before it makes Python objects of them.

    Its own iteration copies each image into a `bytes`, with Python's lock held: half of the feed's time.
    """
    while True:
        try:
            yield reader._workers_pool.get_results()
        except EmptyResultError:
            return


def _matrix(column: pa.ChunkedArray, stock: Stock) -> NDArray[Any]:
    """Values (n, length) of a column of equally long bytes or lists, as they lie in memory.

    Raises TableError where a row has another length.
    """
    array = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()  # which copies one chunk, too
    lengths = (pc.binary_length if stock.column == "pixels" else pc.list_value_length)(array)
    if not pc.all(pc.fill_null(pc.equal(lengths, stock.length), False)).as_py():
        raise TableError(f"{stock.uri}: column {stock.column!r}: expected {stock.length} values in each row")
    if stock.column == "features":
        return array.flatten().to_numpy().reshape(-1, stock.length)  # type: ignore[no-any-return]
    _, offsets, values = array.buffers()
    start = int(np.frombuffer(offsets, np.int32)[array.offset])
    return np.frombuffer(values, np.uint8, len(array) * stock.length, start).reshape(-1, stock.length)


def _fitting(batch_size: int, rows: int, devices: int) -> int:
    # MirroredStrategy cuts a batch into parts of n / devices rows, rounded up: with 21 rows the eighth device has none,
    # and batch normalisation fails.
    for size in range(batch_size, devices - 1, -1):
        if all((devices - 1) * math.ceil(n / devices) < n for n in (size, rows % size or size)):
            return size
    raise ConfigError(
        f"train.batch_size: expected one that gives each of {devices} devices a row of every batch of {rows} rows, "
        f"got {batch_size}"
    )


def _petastorm_url(uri: str) -> str:
    scheme, _, rest = uri.partition("://")
    return f"s3://{rest}" if scheme in ("s3a", "s3n") else uri
