"""When a training learns what, and how fast: one phase, or first the head alone and then all of it."""

import math
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import keras

from pneumospark.config import TrainConfig


class Phase(NamedTuple):
    """Epochs `first` to below `last`, at a first `rate`, with the share `frozen` of the backbone's layers at rest."""

    first: int
    last: int
    rate: float
    frozen: float
    schedule: Sequence[keras.callbacks.Callback]


def phases(recipe: TrainConfig, done: int = 0) -> list[Phase]:
    """The phases of a recipe that have epochs left after `done`, the last one in any case.

    With `head_epochs` so many at one rate, all the backbone at rest, come before the others. The second phase begins
    with a fresh optimizer at `finetune_rate`, and early stopping counts its epochs alone.
    """
    alone, rate = recipe.head_epochs, recipe.learning_rate
    steady = keras.callbacks.LearningRateScheduler(lambda epoch, now: rate)  # so that the history has the rate, too
    head = [Phase(0, alone, rate, 1.0, [steady])] if alone > done else []
    whole = (recipe.finetune_rate or rate / 10) if alone else rate
    return [*head, Phase(alone, recipe.epochs, whole, recipe.frozen, _schedule(recipe, alone, whole))]


def cosine(highest: float, epochs: int, epoch: int, *_: float) -> float:
    """The rate of an epoch: `highest` in the first one, towards 0 after the last (arXiv:1608.03983, no restarts)."""
    return highest * (1 + math.cos(math.pi * epoch / epochs)) / 2


def _schedule(recipe: TrainConfig, first: int, rate: float) -> list[keras.callbacks.Callback]:
    if recipe.schedule == "cosine":
        falling = partial(cosine, rate, recipe.epochs - first)
        return [keras.callbacks.LearningRateScheduler(lambda epoch, now: falling(epoch - first))]
    halving, stop = max(1, recipe.patience // 2), recipe.patience
    return [
        keras.callbacks.EarlyStopping(monitor="val_loss", patience=stop, restore_best_weights=True, verbose=1),
        keras.callbacks.ReduceLROnPlateau(monitor="val_loss", factor=0.5, patience=halving, verbose=1),
    ]
