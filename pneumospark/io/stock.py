"""What a table holds for training, counted without Petastorm: the figures that every epoch is held against."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.dataset
from numpy.typing import NDArray
from pyarrow.dataset import field

from pneumospark.errors import LeakError, LostRowsError, TableError
from pneumospark.io.drivers import FAILURES, said
from pneumospark.io.files import Store, plain
from pneumospark.io.tables import STALE_FOLDER
from pneumospark.labels import NORMAL, PNEUMONIA
from pneumospark.targets import BINARY, UNKNOWN, Target

LABELS = (NORMAL, PNEUMONIA)
VERSION_COLUMNS = {"pixels": "spec", "features": "backbone"}
"""The column that tells what made a row's values."""


@dataclass(frozen=True)
class Census:
    """Which rows there are: how many, and a sum over their ids and what they teach that no two tables share.

    One lost and one doubled row do not leave it equal, nor do two labels that change places.
    """

    rows: int = 0
    digest: int = 0

    def __add__(self, other: "Census") -> "Census":
        return Census(self.rows + other.rows, (self.digest + other.digest) % 2**64)

    def plus(self, image_ids: NDArray[np.str_], truth: NDArray[np.float32]) -> "Census":
        """This census and further rows, in any order: their ids (n,), and what a network is to say, (n,) or (n, k)."""
        taught, length = truth.astype(np.float32).tobytes(), 4 * math.prod(truth.shape[1:])
        rows = zip(image_ids.tolist(), range(0, len(taught), length), strict=True)
        hashes = (blake2b(one.encode() + taught[at : at + length], digest_size=8).digest() for one, at in rows)
        # In a sum of numpy's, which overflows as a sum modulo 2**64 does.
        return self + Census(len(image_ids), int(np.frombuffer(b"".join(hashes), ">u8").sum(dtype=np.uint64)))


class Group(NamedTuple):
    """A row group: how many of its rows a feed gives, and what it holds, uncompressed."""

    rows: int
    bytes: int


@dataclass(frozen=True)
class Stock:
    """The labelled rows of one version (a spec, a backbone) of a table, as its Parquet files tell without Petastorm."""

    uri: str
    column: str  # "pixels" or "features"
    version: str
    census: dict[str, Census]  # by split
    labels: dict[str, dict[str, int]]  # by split: rows of each label, of each output of a target of several
    unlabelled: int  # rows of other labels or none, void ones left out
    length: int  # bytes of a row's pixels, numbers of its features
    groups: dict[str, tuple[Group, ...]]  # by split: its row groups in the order of the files' paths
    runs: tuple[str, ...]  # all of `extract` that there were: those that come later are for another training
    stale: frozenset[tuple[str, str]]  # run_id and image_id of rows that `extract` has declared void
    target: Target = BINARY  # which says what rows are labelled

    def check(self, split: str, seen: Census) -> None:
        """Raise LostRowsError unless an epoch gave exactly the rows of a split."""
        expected = self.census[split]
        if seen != expected:
            raise LostRowsError(
                f"{self.uri}, split {split}: expected {expected.rows} rows in an epoch, "
                f"Petastorm gave {seen.rows}" + (", not the same ones" if seen.rows == expected.rows else "")
            )

    def facts(self) -> dict[str, Any]:
        """What a bundle says of its data: the hash of the rows stands for the table."""
        rows = {
            split: {"rows": census.rows, "digest": f"{census.digest:016x}", **self.labels[split]}
            for split, census in self.census.items()
        }
        return {"column": self.column, "version": self.version, "splits": dict(sorted(rows.items()))}


def take_stock(uri: str, column: str, store: Store, version: str | None = None, target: Target = BINARY) -> Stock:
    """Read ids, labels and splits of a table with plain pyarrow: the figures that every epoch is held against.

    Raises TableError where there is no such table, where it holds several versions and none is named, and where train
    or validation lack one of the two labels, one of the kinds, or all of the findings; LeakError where a patient or an
    image is in two splits.
    """
    names = ["image_id", "patient_id", "run_id", "label", "split", key := VERSION_COLUMNS[column], *columns_of(target)]
    store.exists(uri)  # raises SourceError where the store itself is not there
    try:
        table = (files := _files(uri, store)).to_table(columns=names).to_pandas()
        stale = _read_stale(uri, store)
    except (*FAILURES, pyarrow.ArrowException) as error:
        raise TableError(f"{uri}: expected a table with the columns {', '.join(names)}: {said(error)}") from error
    found = sorted(table[key].unique())
    if len(found) != 1 and version is None:
        raise TableError(f"{uri}: expected rows of one {key}, found {found}; name one with --version")
    if (version := version or found[0]) not in found:
        raise TableError(f"{uri}: expected rows of {key} {version}, found {found}")
    held = [group for fragment in files.get_fragments() for group in fragment.row_groups]
    table["group"] = np.repeat(np.arange(len(held)), [group.num_rows for group in held])  # a table keeps their order
    split_of_group, runs = table.groupby("group")["split"].first(), tuple(sorted(table["run_id"].unique()))
    table = table[table[key] == version]
    table = table[counts(table["run_id"].to_numpy(), table["image_id"].to_numpy(), stale)]
    encoded = target.encode(*told(table))
    known = (encoded != UNKNOWN).any(axis=1)
    rows, encoded = table[known], encoded[known]
    _check_no_leak(rows, uri)
    labels = {split: _labels(encoded[(rows["split"] == split).to_numpy()], target) for split in rows["split"].unique()}
    for split in ("train", "validation"):
        of_split = labels.get(split, {})
        if not all(of_split.values() if target.name != "findings" else [any(of_split.values())]) or not of_split:
            both = "both labels" if target.is_binary else f"{target.name}, {', '.join(target.outputs)},"
            raise TableError(f"{uri}: expected rows of {both} in {split}, found {of_split}")
    masks = {split: (rows["split"] == split).to_numpy() for split in labels}
    census = {split: Census().plus(rows["image_id"].to_numpy()[mask], encoded[mask]) for split, mask in masks.items()}
    wanted = rows["group"].value_counts()
    groups = {
        split: tuple(Group(int(wanted.get(at, 0)), held[at].total_byte_size) for at in of_split.index)
        for split, of_split in split_of_group.groupby(split_of_group)
    }
    one = files.head(1, columns=[column], filter=field(key) == version)
    length = len(one[column][0].as_py())
    return Stock(uri, column, version, census, labels, len(table) - len(rows), length, groups, runs, stale, target)


def _check_no_leak(rows: pd.DataFrame, uri: str) -> None:
    for key in ("patient_id", "image_id"):
        pairs = rows[[key, "split"]].dropna().drop_duplicates()
        if len(leaks := pairs[pairs[key].duplicated(keep=False)]):
            one = min(leaks[key])
            splits = " and ".join(sorted(leaks.loc[leaks[key] == one, "split"]))
            raise LeakError(
                f"{uri}: {leaks[key].nunique()} values of {key} are in more than one split, {one!r} in {splits}. "
                "Ingest into a new table with other --splits."
            )


def told(rows: pd.DataFrame | Mapping[str, NDArray[Any]]) -> tuple[NDArray[np.str_], NDArray[np.str_]]:
    """Labels (n,) and findings (n,) of rows, as a target takes them; findings are the labels where none were read."""
    labels = np.asarray(rows["label"])
    return labels, np.asarray(rows["findings"]) if "findings" in rows else labels


def columns_of(target: Target) -> tuple[str, ...]:
    """What a target needs of a row besides its label: tables of version 0.1 have no findings, and need none for two."""
    return () if target.is_binary else ("findings",)


def _labels(encoded: NDArray[np.float32], target: Target) -> dict[str, int]:
    """Rows of each label: of normal and pneumonia, or those of which an output is to be 1."""
    positives = dict(zip(target.outputs, (encoded == 1).sum(axis=0).tolist(), strict=True))
    return {NORMAL: len(encoded) - positives[PNEUMONIA], **positives} if target.is_binary else positives


def counts(
    run_ids: NDArray[np.str_], image_ids: NDArray[np.str_], stale: frozenset[tuple[str, str]]
) -> NDArray[np.bool_]:
    """(n,) bool: whether a row counts, given (n,) run ids and (n,) image ids, and those that are void."""
    if not stale:
        return np.ones(len(image_ids), bool)
    return np.array([pair not in stale for pair in zip(run_ids.tolist(), image_ids.tolist(), strict=True)], bool)


def _read_stale(uri: str, store: Store) -> frozenset[tuple[str, str]]:
    if not store.exists(folder := f"{uri}/{STALE_FOLDER}"):
        return frozenset()
    if not (files := _files(folder, store)).files:
        return frozenset()  # a run of `extract` that was killed left no more than the folder
    table = files.to_table(columns=["row_run_id", "image_id"])
    return frozenset(zip(table["row_run_id"].to_pylist(), table["image_id"].to_pylist(), strict=True))


def pixel_rows(stock: Stock, store: Store, splits: tuple[str, ...], most: int) -> Iterator[dict[str, Any]]:
    """Rows of some splits that the stock counts, one at a time: patient_id (else the image's id), split, label, pixels.

    Of more than `most` rows the image's id, a hash, chooses about that many: the same ones each time.
    """
    share = min(1.0, most / max(1, sum(stock.census[split].rows for split in splits)))
    wanted = (field("spec") == stock.version) & field("split").isin(splits) & field("run_id").isin(stock.runs)
    columns = ["run_id", "image_id", "patient_id", "split", "label", "pixels", *columns_of(stock.target)]
    for batch in _files(stock.uri, store).to_batches(columns=columns, filter=wanted, batch_size=64):
        for row in _taught(batch.to_pandas(), stock).to_dict("records"):
            if (row["run_id"], row["image_id"]) not in stock.stale and int(row["image_id"][-8:], 16) < share * 2**32:
                yield {str(name): value for name, value in row.items()}


def patients(stock: Stock, store: Store, split: str) -> int:
    """How many patients the rows of a split that the stock counts are of; one of no known patient is one of its own."""
    wanted = (field(VERSION_COLUMNS[stock.column]) == stock.version) & (field("split") == split)
    wanted &= field("run_id").isin(stock.runs)
    columns = ["run_id", "image_id", "patient_id", "label", *columns_of(stock.target)]
    files = _files(stock.uri, store)
    table = files.to_table(columns=columns, filter=wanted).to_pandas()
    table = table[counts(table["run_id"].to_numpy(), table["image_id"].to_numpy(), stock.stale)]
    return int(_taught(table, stock)["patient_id"].nunique())


def _taught(table: pd.DataFrame, stock: Stock) -> pd.DataFrame:
    """The rows that can teach the stock's target anything; patient_id is the image's where there is none."""
    table = table[stock.target.known(*told(table))]
    return table.assign(patient_id=table["patient_id"].fillna(table["image_id"]))


def _files(uri: str, store: Store) -> pyarrow.dataset.Dataset:
    """The table's files, listed here: pyarrow would take the zero-byte markers of S3 writers for some of them."""
    filesystem, root = store.filesystem(uri), plain(uri)
    found = filesystem.find(root, detail=True)
    paths = sorted(path for path, info in found.items() if info["size"] and _is_visible(path.removeprefix(root)))
    partitioning = pyarrow.dataset.partitioning(flavor="hive")
    return pyarrow.dataset.dataset(
        paths, filesystem=filesystem, format="parquet", partitioning=partitioning, partition_base_dir=root
    )


def _is_visible(below: str) -> bool:
    """Whether readers of tables see a path: `_temporary/`, `_spec/`, `__magic_job-1/` and `.crc` files are not rows."""
    return not any(part.startswith(("_", ".")) for part in below.split("/"))
