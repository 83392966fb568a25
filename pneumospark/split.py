"""Which split a patient belongs to: a stable hash, so that new images of an old patient land where the old ones are."""

import hashlib

from pneumospark.errors import ConfigError

SPLITS = ("train", "validation", "test")


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
        return SPLITS[0]
    return SPLITS[1] if point < train + validation else SPLITS[2]


def check_shares(shares: tuple[float, ...]) -> tuple[float, float, float]:
    """The shares; raises ConfigError unless they are three of 0 to 1 that sum to 1."""
    if len(shares) != 3 or any(not 0 <= share <= 1 for share in shares) or abs(sum(shares) - 1) > 1e-9:
        raise ConfigError(
            f"ingest.shares: expected three shares of 0 to 1 for {', '.join(SPLITS)} that sum to 1, got {shares}"
        )
    train, validation, test = shares
    return train, validation, test
