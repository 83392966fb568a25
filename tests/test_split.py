"""Splits: the same everywhere and for ever, of the shares asked for, and moved as little as these are."""

from collections import Counter, defaultdict
from itertools import pairwise

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pneumospark.errors import ConfigError
from pneumospark.split import SPLITS, Twin, check_shares, split_of, tie

SHARES = (0.7, 0.15, 0.15)
PATIENTS = [f"person{number}" for number in range(3000)]
cuts = st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted)
shares = cuts.map(lambda cut: (cut[0], cut[1] - cut[0], 1 - cut[1]))


def test_these_patients_stay_where_they_are() -> None:
    """Written down, not computed: another hash would move the patients of every table there is."""
    known = {"person1": "test", "person2": "train", "person3": "test", "00000013": "validation", "ärztin": "train"}
    assert {group: split_of(group, SHARES) for group in known} == known
    assert split_of("person1", SHARES, salt="4") == "train"


@settings(deadline=None)
@given(st.text(), shares, st.text())
def test_a_group_has_one_split(group: str, shares: tuple[float, float, float], salt: str) -> None:
    split = split_of(group, shares, salt)
    assert split in SPLITS
    assert split == split_of(group, shares, salt)


@settings(deadline=None)
@given(shares, st.text(max_size=5))
def test_any_shares_are_met(shares: tuple[float, float, float], salt: str) -> None:
    counts = Counter(split_of(patient, shares, salt) for patient in PATIENTS)
    for split, share in zip(SPLITS, shares, strict=True):  # Hoeffding: further off once in 10^12 times
        assert abs(counts[split] / len(PATIENTS) - share) < 0.07


def test_the_usual_shares_are_met_closely() -> None:
    counts = Counter(split_of(str(number), SHARES) for number in range(20_000))
    assert [counts[split] / 20_000 for split in SPLITS] == pytest.approx(SHARES, abs=0.01)


@pytest.mark.parametrize(("place", "split"), list(enumerate(SPLITS)))
def test_a_share_of_one_takes_all_and_of_none_nothing(place: int, split: str) -> None:
    whole = tuple(float(number == place) for number in range(3))
    assert {split_of(patient, whole) for patient in PATIENTS} == {split}


@settings(deadline=None)
@given(cuts, cuts)
def test_a_moved_border_moves_only_what_lies_between(before: list[float], after: list[float]) -> None:
    """Train against validation with test as it is: no patient goes from or to test; and the like on the other side."""
    test = 1 - before[1]
    train = min(after[0], before[1])
    old, new = (before[0], before[1] - before[0], test), (train, before[1] - train, test)
    moved = {(split_of(p, old), split_of(p, new)) for p in PATIENTS[:300]}
    grown = ("validation", "train") if new[0] > old[0] else ("train", "validation")
    assert {pair for pair in moved if pair[0] != pair[1]} <= {grown}


def test_the_salt_draws_others() -> None:
    moved = sum(split_of(patient, SHARES) != split_of(patient, SHARES, "again") for patient in PATIENTS)
    assert 0.35 < moved / len(PATIENTS) < 0.6  # 1 - (0.7^2 + 2 * 0.15^2) = 0.465


@settings(deadline=None)
@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=5))
def test_shares_that_are_none_are_refused(shares: list[float]) -> None:
    good = len(shares) == 3 and all(0 <= share <= 1 for share in shares) and abs(sum(shares) - 1) < 2e-9
    assume(not good)
    with pytest.raises(
        ConfigError, match=r"ingest\.shares: expected three shares of 0 to 1 for train, validation, test"
    ):
        check_shares(tuple(shares))


def test_shares_may_be_rounded() -> None:
    assert check_shares((0.1, 0.2, 0.7)) == (0.1, 0.2, 0.7)  # the sum of these floats is not 1


def draw(group: str, given: str | None) -> str:
    """As ingest draws; "development" is not test."""
    return split_of(group, (0.8, 0.2, 0.0) if given else (0.4, 0.3, 0.3))


def twins(*files: str, given: str | None = None) -> list[Twin]:
    """Of "image group" each."""
    return [Twin(*file.split(), given=given) for file in files]


def test_groups_tied_by_others_share_the_draw_of_the_smallest() -> None:
    chain = twins("x a", "x b", "y b", "y c", "z d", "z e")
    found = tie(chain, {}, draw)
    assert {found.splits[group] for group in "abc"} == {draw("a", None)} and found.held == {}
    assert found.splits["e"] == draw("d", None)
    assert len({draw(group, None) for group in "abc"}) > 1  # or this shows nothing


def test_what_is_in_the_table_stays_and_newcomers_join_it() -> None:
    split = next(split for split in SPLITS if split != draw("a", None))
    found = tie(twins("x a", "x b"), {"b": split}, draw)
    assert found.splits == {"a": split, "b": split} and found.held == {}


def test_an_image_that_ties_two_splits_of_the_table_is_held_in_one() -> None:
    new = tie(twins("x a", "x b"), {"a": "train", "b": "test"}, draw)
    assert new.splits == {"a": "train", "b": "test"} and new.held == {"x": "train"}
    old = tie([Twin("x", "b", split="test"), *twins("x a")], {"a": "train", "b": "test"}, draw)
    assert old.held == {"x": "test"}  # where the table has it
    others = tie([*twins("x a", "x b", "y c"), Twin("y", "b", split="test")], {"a": "train", "b": "test"}, draw)
    assert others.held == {"x": "train"} and others.splits["c"] == "test"  # what is held ties nobody


def test_a_given_split_wins_over_a_draw_and_is_never_changed() -> None:
    one, other = next((one, other) for one in SPLITS for other in SPLITS if one != other != draw("a", None))
    assert tie([*twins("x b", given=one), *twins("x a")], {}, draw).splits == {"a": one, "b": one}
    torn = tie([*twins("x b", given=one), *twins("x a", given=other)], {}, draw)
    assert torn.splits == {"b": one, "a": other} and torn.held["x"] in (one, other)


def test_development_keeps_a_company_out_of_the_test() -> None:
    names = [f"p{number:02d}" for number in range(60)]
    found = [tie([*twins(f"x {a}"), *twins(f"x {b}", given="development")], {}, draw) for a, b in pairwise(names)]
    assert {split for each in found for split in each.splits.values()} == {"train", "validation"}


files = st.lists(st.tuples(st.sampled_from("uvwxyz"), st.sampled_from("abcdefgh")), max_size=8)


@settings(max_examples=300)
@given(st.lists(files, min_size=1, max_size=4))
def test_no_number_of_nights_brings_a_patient_or_an_image_into_two_splits(nights: list[list[tuple[str, str]]]) -> None:
    """As ingest plays it: a night's rows are written with the splits of `tie`, but for those of a held image."""
    table: list[Twin] = []
    for night in nights:
        known = {row.group: str(row.split) for row in table}
        new = [Twin(*file) for file in night]
        ties = tie([*new, *(row for row in table if row.image_id in {file.image_id for file in new})], known, draw)
        written = [file._replace(split=ties.splits[file.group]) for file in new]
        refused = [row for row in written if ties.held.get(row.image_id, row.split) != row.split]
        assert len(nights) > 1 or not refused  # a single night can always be drawn together
        before = list(table)
        table += [row for row in written if row not in refused]
        assert table[: len(before)] == before
    for key in ("group", "image_id"):
        splits = defaultdict(set)
        for row in table:
            splits[getattr(row, key)].add(row.split)
        assert all(len(found) == 1 for found in splits.values())
