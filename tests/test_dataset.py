"""The feed: every epoch gives exactly the rows of its split, and says so when it does not."""

import contextlib
import hashlib
import os
import time
import warnings
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.local import LocalFileSystem
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from petastorm.arrow_reader_worker import ArrowReaderWorker
from petastorm.workers_pool import EmptyResultError
from processes import wait_for

from pneumospark.config import TrainConfig
from pneumospark.errors import ConfigError, LeakError, LostRowsError, TableError
from pneumospark.io import dataset
from pneumospark.io.copies import Copies
from pneumospark.io.dataset import Feed, Shard
from pneumospark.io.files import Store
from pneumospark.io.remote import Remote
from pneumospark.io.stock import Census, Stock, patients, pixel_rows, take_stock
from pneumospark.learn import trainer

pytestmark = pytest.mark.tensorflow
SHAPE = (3, 2, 1)
LABELS = ("normal", "pneumonia")


def image_id(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def row(number: int, **other: Any) -> dict[str, Any]:
    """A prepared row whose pixels tell its number."""
    pixels = np.full(SHAPE, number, np.uint8).tobytes()
    facts = {"image_id": image_id(number), "patient_id": None if number % 4 == 3 else f"p{number // 2}"}
    return facts | {"label": LABELS[number % 2], "pixels": pixels, "spec": "abc"} | other


def write(table: Path, run: str, split: str, rows: list[dict[str, Any]], rows_a_group: int = 4) -> None:
    """One Parquet file of a run and a split, as extract lays them out."""
    folder = table / f"run_id={run}" / f"split={split}"
    folder.mkdir(parents=True, exist_ok=True)
    number = len(list(folder.iterdir()))
    pq.write_table(pa.Table.from_pylist(rows), folder / f"part-{number}.parquet", row_group_size=rows_a_group)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Two runs, several files and row groups; 30 rows to train on, 8 to validate with, 4 of no use."""
    write(tmp_path, "r1", "train", [row(number) for number in range(18)])
    write(tmp_path, "r1", "train", [row(number) for number in range(18, 20)])
    write(tmp_path, "r2", "train", [row(number) for number in range(20, 30)])
    write(tmp_path, "r2", "train", [row(90, label=None), row(91, label="other")])
    write(tmp_path, "r1", "validation", [row(number) for number in range(40, 48)])
    write(tmp_path, "r1", "test", [row(92, label=None), row(93, label="other")])
    return tmp_path


def stock(table: Path, column: str = "pixels", version: str | None = None) -> Stock:
    return take_stock(f"file://{table}", column, Store(), version)


def feed(table: Path, seed: int | None = 0, split: str = "train") -> Feed:
    return Feed(stock(table), split, SHAPE, Store(), seed)


def numbers(batches: Any) -> list[int]:
    """The numbers of one pass's rows, in its order."""
    return [int(x[0, 0, 0]) for batch, _ in batches for x in batch.numpy()]


@pytest.mark.parametrize("seed", [None, 0, 7])
def test_an_epoch_gives_each_row_once(table: Path, seed: int | None) -> None:
    rows = feed(table, seed)
    batches = rows.batches(7, shuffle_rows=16)
    for _ in range(3):
        assert sorted(numbers(batches)) == list(range(30))
        rows.audit()
    assert [census.rows for census in rows.seen] == [30, 30, 30]


def test_pixels_and_labels_belong_together_and_are_exact(table: Path) -> None:
    for x, y in feed(table).batches(7, shuffle_rows=16):
        assert x.shape[1:] == SHAPE
        assert np.ptp(x.numpy(), axis=(1, 2, 3)).max() == 0
        assert (x.numpy()[:, 0, 0, 0] % 2 == y.numpy()).all()


@pytest.mark.parametrize("seed", [None, 0])
def test_tensorflow_takes_batches_as_they_lie(table: Path, seed: int | None) -> None:
    """It copies each that begins at no multiple of 64 bytes."""
    rows = feed(table, seed)
    assert {x.ctypes.data % 64 for x, _ in rows._batches(rows._sizes(3, 1), 8)} == {0}


def test_batches_are_the_same_however_many_are_handed_over_at_a_time(
    table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, handed = Feed._batches, []

    def counted(self: Feed, sizes: Any, shuffle_rows: int) -> Any:
        handed.append(len(sizes))
        return whole(self, sizes, shuffle_rows)

    monkeypatch.setattr(Feed, "_batches", counted)
    a_batch, passes = 4 * 6, []  # of rows of six bytes
    for held in (1, a_batch, 3 * a_batch, 100 * a_batch):
        monkeypatch.setattr(dataset, "HANDED_BYTES", held)
        passes.append([(x.numpy().tolist(), y.numpy().tolist()) for x, y in feed(table).batches(4, shuffle_rows=8)])
    assert handed == [8, 8, 3, 1]
    assert [len(y) for _, y in passes[0]] == [4] * 7 + [2]
    assert all(batches == passes[0] for batches in passes)


def test_validation_comes_in_the_order_of_the_files(table: Path) -> None:
    assert numbers(feed(table, None, "validation").batches(3)) == list(range(40, 48))


def test_the_patients_of_validation_come_in_the_same_order_and_an_image_without_one_is_its_own(table: Path) -> None:
    rows = feed(table, None, "validation")
    numbers(rows.batches(3))
    expected = [image_id(number) if number % 4 == 3 else f"p{number // 2}" for number in range(40, 48)]
    assert rows.patients.tolist() == expected


def test_a_seed_gives_the_same_order_and_another_seed_another(table: Path) -> None:
    def passes(seed: int) -> list[list[int]]:
        batches = feed(table, seed).batches(4, shuffle_rows=8)
        return [numbers(batches) for _ in range(2)]

    first = passes(1)
    assert first == passes(1)
    assert first[0] != first[1]
    assert first[0] != passes(2)[0]


def test_a_training_that_goes_on_gets_the_epoch_that_is_next(table: Path) -> None:
    batches = feed(table, 1).batches(4, shuffle_rows=8)
    passes = [numbers(batches) for _ in range(3)]
    later = Feed(stock(table), "train", SHAPE, Store(), seed=1, done=1).batches(4, shuffle_rows=8)
    assert [numbers(later) for _ in range(2)] == passes[1:]


def test_row_groups_come_in_another_order_each_epoch(table: Path) -> None:
    """The shuffle buffer mixes neighbours only: without this, rows of one file would always meet."""
    batches = feed(table).batches(4)
    first, second = numbers(batches), numbers(batches)
    assert first != second and sorted(first) == sorted(second)


def test_stock_counts_rows_labels_and_what_is_of_no_use(table: Path) -> None:
    found = stock(table)
    assert {split: census.rows for split, census in found.census.items()} == {"train": 30, "validation": 8}
    assert found.labels["train"] == {"normal": 15, "pneumonia": 15}
    assert found.unlabelled == 4
    assert found.length == 6
    assert found.facts()["splits"]["validation"]["rows"] == 8


class Broken:
    """Petastorm's reader with its row groups changed on the way."""

    def __init__(self, reader: Any, change: Any) -> None:
        self.reader, self.change = reader, change

    def __enter__(self) -> "Broken":
        self.reader.__enter__()
        self.groups = iter(self.change(list(dataset._tables(self.reader))))
        self._workers_pool = self
        return self

    def __exit__(self, *args: object) -> None:
        self.reader.__exit__(*args)

    def get_results(self) -> pa.Table:
        for group in self.groups:
            return group
        raise EmptyResultError


def breaks(monkeypatch: pytest.MonkeyPatch, change: Any) -> None:
    whole = dataset.make_batch_reader
    monkeypatch.setattr(dataset, "make_batch_reader", lambda *args, **more: Broken(whole(*args, **more), change))


def test_a_short_epoch_is_an_error(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    breaks(monkeypatch, lambda groups: groups[1:])
    rows = feed(table, None)
    numbers(rows.batches(4))
    with pytest.raises(LostRowsError, match=r"split train: expected 30 rows in an epoch, Petastorm gave 26$"):
        rows.audit()


def test_one_row_lost_and_one_doubled_is_an_error(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def doubled(groups: list[Any]) -> list[Any]:
        first, same_size = groups[0], next(group for group in groups[1:] if len(group) == len(groups[0]))
        return [first if group is same_size else group for group in groups]

    breaks(monkeypatch, doubled)
    rows = feed(table, None)
    numbers(rows.batches(4))
    with pytest.raises(LostRowsError, match="expected 30 rows in an epoch, Petastorm gave 30, not the same ones"):
        rows.audit()


def test_an_epoch_that_never_ended_is_an_error(table: Path) -> None:
    with pytest.raises(LostRowsError, match="expected 30 rows in an epoch, Petastorm gave 0"):
        feed(table).audit()


def test_each_pass_is_audited_for_itself(table: Path) -> None:
    rows = feed(table)
    numbers(rows.batches(4))
    rows.audit()
    with pytest.raises(LostRowsError, match="expected 30 rows in an epoch, Petastorm gave 0"):
        rows.audit()


def test_runs_of_extract_that_come_during_a_training_are_for_the_next_one(table: Path) -> None:
    rows, validation = feed(table), feed(table, None, "validation")
    batches, unshuffled = rows.batches(4, shuffle_rows=8), validation.batches(4)
    for night in range(3):
        assert sorted(numbers(batches)) == list(range(30))
        assert numbers(unshuffled) == list(range(40, 48))
        for each in (rows, validation):
            each.audit()
        write(table, f"r{night + 3}", "train", [row(100 + 20 * night + more) for more in range(20)])
        write(table, f"r{night + 3}", "validation", [row(200 + 20 * night + more) for more in range(20)])
    assert {found["split"] for found in pixel_rows(rows.stock, Store(), ("validation",), 1000)} == {"validation"}
    assert len(list(pixel_rows(rows.stock, Store(), ("train", "validation"), 1000))) == 38
    assert patients(rows.stock, Store(), "validation") == len(set(validation.patients))


def test_a_run_that_grows_is_an_error_in_each_epoch(table: Path) -> None:
    rows = feed(table)
    batches = rows.batches(4, shuffle_rows=8)
    write(table, "r1", "train", [row(number) for number in range(100, 140)])
    for _ in range(2):
        assert len(numbers(batches)) == 30  # no more than were counted, or Keras would never see its end
        with pytest.raises(LostRowsError, match="expected 30 rows in an epoch, Petastorm gave 70"):
            rows.audit()


@pytest.mark.parametrize("key", ["patient_id", "image_id"])
def test_what_is_in_two_splits_is_not_learnt(table: Path, key: str) -> None:
    write(table, "r3", "validation", [row(100, **{key: row(8)[key]})])
    with pytest.raises(LeakError, match=rf"1 values of {key} are in more than one split, .* in train and"):
        stock(table)


def test_other_labels_are_other_rows(table: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    corrected = tmp_path_factory.mktemp("corrected")
    swapped = [row(number, label=LABELS[(number + (number < 2)) % 2]) for number in range(30)]
    write(corrected, "r1", "train", swapped)
    write(corrected, "r1", "validation", [row(number) for number in range(40, 48)])
    before, after = stock(table).facts()["splits"], stock(corrected).facts()["splits"]
    assert before["validation"] == after["validation"]
    assert before["train"].pop("digest") != after["train"].pop("digest") and before["train"] == after["train"]


def test_void_rows_of_which_a_killed_run_wrote_none_are_none(table: Path) -> None:
    leftover = table / "_stale" / "rows" / "run_id=r3" / "_temporary" / "0"
    leftover.mkdir(parents=True)
    assert stock(table).census["train"].rows == 30


def test_a_run_that_may_not_be_listed_is_an_error(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A stand-in for a folder without rights, since root lists all of them.
    listed = os.scandir

    def refused(path: Any) -> Any:
        if str(path).endswith("run_id=r2"):
            raise PermissionError(13, "Permission denied", path)
        return listed(path)

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(TableError, match=r"Permission denied: '.*run_id=r2'"):
        stock(table)


def test_what_a_dead_run_left_is_not_read(table: Path) -> None:
    leftover = table / "run_id=r3" / "_temporary" / "0" / "split=train"
    leftover.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist([row(80)]), leftover / "part-0.parquet")
    rows = feed(table)
    assert sorted(numbers(rows.batches(8))) == list(range(30))
    rows.audit()


def test_other_specs_in_the_table_must_be_chosen_from(table: Path) -> None:
    write(table, "r4", "train", [row(number, spec="xyz") for number in range(50, 54)])
    with pytest.raises(TableError, match=r"rows of one spec, found \['abc', 'xyz'\]; name one with --version"):
        stock(table)
    rows = Feed(stock(table, version="abc"), "train", SHAPE, Store(), 0)
    assert sorted(numbers(rows.batches(8))) == list(range(30))
    rows.audit()


def test_a_version_that_is_not_there_is_an_error(table: Path) -> None:
    with pytest.raises(TableError, match=r"expected rows of spec xyz, found \['abc'\]"):
        stock(table, version="xyz")


def test_markers_and_hidden_files_are_not_read(table: Path) -> None:
    """Also where the table itself lies in a folder whose name readers of tables would pass over."""
    hidden = table.parent / "_tables" / ".hidden"
    hidden.parent.mkdir()
    table.rename(hidden)
    folder = hidden / "run_id=r1" / "split=train"
    for place in (hidden, hidden / "run_id=r1", folder):
        (place / "_SUCCESS").touch()
    (folder / ".part-0.parquet.crc").write_bytes(b"crc")
    (hidden / "run_id=dead" / "_temporary" / "0").mkdir(parents=True)
    rows = feed(hidden)
    assert sorted(numbers(rows.batches(8))) == list(range(30))
    rows.audit()


def test_one_row_replaced_by_another_is_an_error(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def replaced(groups: list[Any]) -> list[Any]:
        return [pa.concat_tables([group.slice(0, 1), group.slice(0, 1), group.slice(2)]) for group in groups]

    breaks(monkeypatch, replaced)
    rows = feed(table)
    numbers(rows.batches(4))
    with pytest.raises(LostRowsError, match="Petastorm gave 30, not the same ones"):
        rows.audit()


@pytest.mark.parametrize("short", ["train", "validation"])
def test_a_short_epoch_ends_the_training_as_what_it_is(
    table: Path, monkeypatch: pytest.MonkeyPatch, short: str
) -> None:
    """Keras stands between the audit and the job: its own errors would hide which rows are missing."""
    whole, passes = dataset.make_batch_reader, []

    def reader(*args: Any, **more: Any) -> Any:
        passes.append(split := more["filters"][0][2])
        late = passes.count(split) == 2 and split == short
        return Broken(whole(*args, **more), (lambda groups: groups[:-1]) if late else list)

    monkeypatch.setattr(dataset, "make_batch_reader", reader)
    training, validation = feed(table), feed(table, None, "validation")
    batches, audits = (training.batches(8, 16), validation.batches(8)), (training.audit, validation.audit)
    recipe = TrainConfig(bundle="unused", epochs=5, augment="none")
    with pytest.raises(LostRowsError, match=rf"split {short}: expected \d+ rows in an epoch, Petastorm gave \d+$"):
        trainer.train(recipe, lambda: small(SHAPE), *batches, audits)
    assert len(training.seen) == 2  # it stopped at the first epoch that was short


def small(shape: tuple[int, ...]) -> Any:
    import keras

    inputs = keras.Input(shape)
    return keras.Model(inputs, keras.layers.Dense(1, activation="sigmoid")(keras.layers.Flatten()(inputs)))


@pytest.mark.parametrize(
    ("rows", "batch_size", "devices"), [(33, 32, 2), (36, 7, 4), (17, 8, 2), (8, 5, 4), (64, 32, 8), (4277, 32, 8)]
)
def test_each_device_has_a_row_of_each_batch(rows: int, batch_size: int, devices: int) -> None:
    size = dataset._fitting(batch_size, rows, devices)
    assert devices <= size <= batch_size
    for n in {size, rows % size} - {0}:  # as tf.distribute cuts it
        part = -(-n // devices)
        assert [min(part, max(0, n - device * part)) for device in range(devices)].count(0) == 0
    assert dataset._fitting(batch_size, rows, 1) == batch_size


def test_batches_that_no_size_fits_are_refused(table: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"train.batch_size: expected one that gives each of 4 devices a row .*, got 3"
    ):
        feed(table).batches(3, devices=4)
    with pytest.raises(ConfigError, match="of 4 devices a row of every batch of 30 rows, got 7"):
        dataset._fitting(7, 30, 4)
    assert [len(y) for _, y in feed(table).batches(29, devices=2)] == [28, 2]


def test_a_split_of_one_label_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, "r1", "train", [row(0), row(1)])
    write(tmp_path, "r1", "validation", [row(2), row(4)])
    with pytest.raises(TableError, match=r"rows of both labels in validation, found \{'normal': 2, 'pneumonia': 0\}"):
        stock(tmp_path)


def test_no_table_and_another_table_are_errors(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="expected a table with the columns image_id, patient_id, run_id, label"):
        stock(tmp_path / "absent")
    write(tmp_path, "r1", "train", [{"image_id": "0", "label": "normal"}])
    with pytest.raises(TableError, match="expected a table with the columns image_id, patient_id, run_id, label"):
        stock(tmp_path)


def features(number: int) -> dict[str, Any]:
    vector = [float(number), number + 0.5]
    facts = {"image_id": image_id(number), "patient_id": f"p{number}", "label": LABELS[number % 2]}
    return facts | {"features": vector, "backbone": "b"}


def test_features_of_backbones_of_two_lengths(tmp_path: Path) -> None:
    for run, other in (("r1", {"features": [0.0] * 3, "backbone": "a"}), ("r2", {})):
        write(tmp_path, run, "train", [features(number) | other for number in range(6)])
        write(tmp_path, run, "validation", [features(number) | other for number in range(6, 8)])
    for version, length in (("a", 3), ("b", 2)):
        found = stock(tmp_path, "features", version)
        assert (found.length, found.census["train"].rows) == (length, 6)
        rows = Feed(found, "train", (length,), Store(), 0)
        assert sum(len(y) for _, y in rows.batches(4)) == 6
        rows.audit()


def test_features_come_as_vectors(tmp_path: Path) -> None:
    write(tmp_path, "r1", "train", [features(number) for number in range(6)])
    write(tmp_path, "r1", "validation", [features(number) for number in range(6, 8)])
    found = stock(tmp_path, "features")
    rows = Feed(found, "train", (found.length,), Store())
    ((x, y),) = list(rows.batches(6))
    assert x.numpy().tolist() == [[number, number + 0.5] for number in range(6)]
    assert y.numpy().tolist() == [0, 1, 0, 1, 0, 1]
    rows.audit()


def shards(table: Path, count: int, seed: int | None = 0) -> list[Feed]:
    return [Feed(stock(table), "train", SHAPE, Store(), seed, shard=Shard(index, count)) for index in range(count)]


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(count=st.integers(2, 12), each=st.integers(2, 6), rows=st.sampled_from([0, 16]))
def test_shards_give_each_row_once_in_equally_many_batches(table: Path, count: int, each: int, rows: int) -> None:
    """Also more shards than there are row groups, of which there are nine."""
    feeds = shards(table, count)
    passes = [feed.batches(each * count + 1, rows) for feed in feeds]
    for _ in range(2):
        epochs = [[batch[:, 0, 0, 0] for batch, _ in batches.as_numpy_iterator()] for batches in passes]
        assert sorted(np.concatenate([batch for epoch in epochs for batch in epoch])) == list(range(30))
        assert len({len(epoch) for epoch in epochs}) == 1
        assert all(0 < len(batch) <= each for epoch in epochs for batch in epoch)
        feeds[0].stock.check("train", sum((feed.seen[-1] for feed in feeds), Census()))


def test_many_row_groups_are_read_by_one_shard_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for first, split in ((0, "train"), (96, "validation")):
        write(tmp_path, "r1", split, [row(first + number) for number in range(96)], rows_a_group=4)
    read: list[int] = []

    def counted(groups: list[Any]) -> list[Any]:
        read.append(sum(map(len, groups)))
        return groups

    breaks(monkeypatch, counted)
    for feed in shards(tmp_path, 3):
        numbers(feed.batches(12))
    assert read == [32, 32, 32]


def test_shards_are_of_the_row_groups_that_petastorm_counts(tmp_path: Path) -> None:
    """Those of another version, too, of which no row is given."""
    write(tmp_path, "r0", "train", [row(200 + number, spec="other") for number in range(4)])
    for first, split in ((0, "train"), (28, "validation")):
        write(tmp_path, "r1", split, [row(first + number) for number in range(28)])
    found = take_stock(f"file://{tmp_path}", "pixels", Store(), "abc")
    feeds = [Feed(found, "train", SHAPE, Store(), 0, shard=Shard(index, 2)) for index in range(2)]
    passes = [[len(y) for _, y in feed.batches(8)] for feed in feeds]
    assert len(passes[0]) == len(passes[1]) and sum(map(sum, passes)) == 28
    found.check("train", sum((feed.seen[-1] for feed in feeds), Census()))


def test_a_shard_that_lost_rows_is_seen_in_the_sum(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    feeds = shards(table, 2)
    numbers(feeds[0].batches(8))
    breaks(monkeypatch, lambda groups: groups[1:])
    numbers(feeds[1].batches(8))
    with pytest.raises(LostRowsError, match=r"split train: expected 30 rows in an epoch, Petastorm gave \d+$"):
        feeds[0].stock.check("train", feeds[0].seen[-1] + feeds[1].seen[-1])


def test_a_batch_too_small_for_all_shards_is_refused(table: Path) -> None:
    with pytest.raises(ConfigError, match=r"gives each of 8 workers a row of every batch of 30 rows, got 7$"):
        shards(table, 8)[0].batches(7)


def test_row_groups_ahead_are_bounded_by_bytes(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, read = ArrowReaderWorker._load_rows, []

    def load(*args: Any) -> Any:
        read.append(args)
        return whole(*args)

    monkeypatch.setattr(ArrowReaderWorker, "_load_rows", load)
    largest = max(group.bytes for group in stock(table).groups["train"])
    for bound, ahead in ((9 * largest, 2), (2 * largest, 2), (2 * largest - 1, 1), (largest - 1, 1)):
        monkeypatch.setattr(dataset, "AHEAD_BYTES", bound)
        read.clear()
        with contextlib.closing(feed(table)._epoch()) as groups:
            next(groups)  # and no more is asked for
            wait_for(lambda ahead=ahead: len(read) >= 1 + ahead)
            time.sleep(0.1)  # in which one too many would be read
            assert len(read) == 1 + ahead


class Counted(LocalFileSystem):  # type: ignore[misc]
    """Local files as a store of its own that counts what it is asked."""

    protocol = "counted"
    calls: ClassVar[list[str]] = []

    def ls(self, path: str, detail: bool = False, **more: Any) -> Any:
        self.calls.append(f"ls {path}")
        return super().ls(path, detail, **more)

    def _open(self, path: str, *args: Any, **more: Any) -> Any:
        self.calls.append(path)
        return super()._open(path, *args, **more)


def remote(table: Path, copies: Copies | None) -> Feed:
    fed = Feed(stock(table), "train", SHAPE, Store(), 0, copies=copies)
    with warnings.catch_warnings():  # as the feed itself does
        warnings.simplefilter("ignore", FutureWarning)
        fed.__dict__["_filesystem"] = Remote(Counted(skip_instance_cache=True), copies)
    Counted.calls.clear()
    return fed


def test_copies_spare_the_store_from_the_second_epoch_on(table: Path, tmp_path_factory) -> None:
    folder = tmp_path_factory.mktemp("copies") / "new"
    rows = remote(table, Copies(folder, 2**20))
    batches = rows.batches(7)
    first = numbers(batches)
    assert sorted(first) == list(range(30)) and Counted.calls
    Counted.calls.clear()
    assert sorted(numbers(batches)) == list(range(30)) and not Counted.calls
    rows.audit()
    another = remote(table, Copies(folder, 2**20))
    assert numbers(another.batches(7)) == first
    assert not [call for call in Counted.calls if call.endswith(".parquet")]


def test_copies_keep_to_their_limit_and_what_does_not_fit_is_read_from_the_store(table: Path, tmp_path_factory) -> None:
    folder = tmp_path_factory.mktemp("copies")
    sizes = sorted(file.stat().st_size for file in table.glob("*/split=train/*.parquet"))
    (folder / "of another table").write_bytes(bytes(sizes[-1]))
    limit = sum(sizes[:-1])
    rows = remote(table, Copies(folder, limit))
    for _ in range(2):
        assert sorted(numbers(rows.batches(7))) == list(range(30))
        assert 0 < sum(file.stat().st_size for file in folder.iterdir()) <= limit
    assert not (folder / "of another table").exists()
    rows.audit()


def test_what_another_process_is_fetching_stays_and_what_a_killed_one_left_goes(tmp_path: Path) -> None:
    arriving, abandoned = tmp_path / "a.part", tmp_path / "b.part"
    for part in (arriving, abandoned):
        part.write_bytes(bytes(10))
    os.utime(abandoned, (0, 0))
    copy = Copies(tmp_path, 30).open("x", 20, lambda: BytesIO(bytes(20)))
    assert copy and not abandoned.exists()
    assert Copies(tmp_path, 30).open("y", 25, lambda: BytesIO(bytes(25))) is None
    assert arriving.exists()


def test_pixels_of_another_length_are_an_error(table: Path) -> None:
    write(table, "r5", "train", [row(60, pixels=b"short")])
    with pytest.raises(Exception, match=r"column 'pixels': expected 6 values in each row"):
        numbers(feed(table).batches(8))
