"""Which split a patient belongs to: a stable hash, and one draw for all whose images are equal byte for byte."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import NamedTuple

from pneumospark.errors import ConfigError

SPLITS = TRAIN, VALIDATION, TEST = ("train", "validation", "test")


def split_of(group: str, shares: tuple[float, float, float], salt: str = "") -> str:
    """Train, validation or test for a patient (or for an image whose patient is not known).

    `shares` are those of train, validation and test: each 0 to 1, together 1. The same group, shares and salt give the
    same split on every machine and in every version; raising one share at the cost of a neighbour moves only groups
    between these two.
    """
    digest = hashlib.sha256(f"{salt}:{group}".encode()).digest()
    point = int.from_bytes(digest[:8], "big") / 2**64  # in [0, 1)
    train, validation, _ = check_shares(shares)
    if point < train:
        return TRAIN
    return VALIDATION if point < train + validation else TEST


def check_shares(shares: tuple[float, ...]) -> tuple[float, float, float]:
    """The shares; raises ConfigError unless they are three of 0 to 1 that sum to 1."""
    if len(shares) != 3 or any(not 0 <= share <= 1 for share in shares) or abs(sum(shares) - 1) > 1e-9:
        raise ConfigError(
            f"ingest.shares: expected three shares of 0 to 1 for {', '.join(SPLITS)} that sum to 1, got {shares}"
        )
    train, validation, test = shares
    return train, validation, test


class Twin(NamedTuple):
    """One of several files of equal bytes, new or in the table already."""

    image_id: str
    group: str  # the patient, or the image where none is known
    given: str | None = None  # the split that a folder or a list gives a new file, or "development"
    split: str | None = None  # the split of a file that is in the table


@dataclass(frozen=True)
class Ties:
    """What equal bytes and earlier nights decide before any hash does."""

    splits: Mapping[str, str] = field(default_factory=dict)  # of a group
    held: Mapping[str, str] = field(default_factory=dict)  # of an image whose groups cannot be brought into one split


def tie(twins: Iterable[Twin], known: Mapping[str, str], draw: Callable[[str, str | None], str]) -> Ties:
    """Draw together the groups whose images are equal byte for byte, directly or by way of others.

    `known` are splits of groups that are in the table: these stay, since a model may have learned from them, and so do
    given ones. A new group joins the fixed one it is tied to (the smallest of several), else the smallest group's
    `draw(group, given)` counts for all. Where that leaves an image in two splits, because fixed groups disagree, it is
    `held` in one of them: where the table has it, or else where it is given, or else with the smallest group.
    """
    from scipy.cluster.hierarchy import DisjointSet  # half a second, in every worker, for what only the driver needs

    files = sorted(twins, key=lambda twin: (twin.image_id, twin.group, twin.given or "", twin.split or ""))
    given = {twin.group: twin.given for twin in files if twin.given}
    fixed = {**known, **{group: split for group, split in given.items() if split in SPLITS}}
    tied = DisjointSet(twin.group for twin in files)
    for company in (list(group) for _, group in groupby(files, key=lambda twin: twin.image_id)):
        if len({fixed[twin.group] for twin in company if twin.group in fixed}) < 2:  # else it is held, and ties nobody
            for twin in company:
                tied.merge(company[0].group, twin.group)
    splits: dict[str, str] = {}
    for groups in tied.subsets():
        settled = sorted(group for group in groups if group in fixed)
        some = next((given[group] for group in sorted(groups) if group in given), None)  # development, if not settled
        common = fixed[settled[0]] if settled else draw(min(groups), some)
        splits |= {group: fixed.get(group, common) for group in groups}
    return Ties(dict(known) | splits, _held(files, splits))


def _held(files: list[Twin], splits: Mapping[str, str]) -> dict[str, str]:
    held = {}
    for image_id, found in groupby(files, key=lambda twin: twin.image_id):
        twins = list(found)
        told = [twin.split or (twin.given if twin.given in SPLITS else None) for twin in twins]
        if len({split or splits[twin.group] for split, twin in zip(told, twins, strict=True)}) > 1:
            stored = [twin.split for twin in twins if twin.split]
            held[image_id] = next(split for split in (*stored, *told, splits[twins[0].group]) if split)
    return held
