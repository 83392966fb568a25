"""The split of a patient: stable, near its shares, and moved by as little as possible."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pneumospark.errors import ConfigError
from pneumospark.split import SPLITS, check_shares, split_of

SHARES = (0.7, 0.15, 0.15)


def test_a_split_is_for_ever() -> None:
    """Written down: a new version must not move old patients."""
    assert [split_of(f"person{number}", SHARES) for number in range(1, 13)] == (
        "test train test train train train train train test train train train".split()
    )


def test_shares_are_met() -> None:
    drawn = [split_of(str(number), SHARES) for number in range(20_000)]
    for split, share in zip(SPLITS, SHARES, strict=True):
        assert drawn.count(split) / len(drawn) == pytest.approx(share, abs=0.01)


def test_another_salt_draws_others() -> None:
    assert [split_of(str(n), SHARES) for n in range(50)] != [split_of(str(n), SHARES, "x") for n in range(50)]


@given(st.text(max_size=20), st.integers(0, 100))
def test_a_smaller_training_share_only_moves_patients_out_of_training(group: str, percent: int) -> None:
    train = percent / 100
    before, after = split_of(group, (train, 1 - train, 0.0)), split_of(group, (train / 2, 1 - train / 2, 0.0))
    assert (before, after) in {("train", "train"), ("train", "validation"), ("validation", "validation")}


@pytest.mark.parametrize("shares", [(0.7, 0.3), (0.7, 0.2, 0.2), (1.2, -0.1, -0.1), (0.5, 0.5, 0.5, -0.5)])
def test_shares_must_be_shares(shares: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match="expected three shares of 0 to 1 for train, validation, test that sum to 1"):
        check_shares(shares)
