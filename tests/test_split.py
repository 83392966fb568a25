"""Splits: the same everywhere and for ever, of the shares asked for, and moved as little as these are."""

from collections import Counter

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pneumospark.errors import ConfigError
from pneumospark.split import SPLITS, check_shares, split_of

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
