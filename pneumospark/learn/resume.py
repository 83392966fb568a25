"""A training that was killed goes on where its last epoch ended, and comes to the same network."""

import io
import json
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

Arrays = list[np.ndarray[Any, Any]]
COUNTED = ("best", "best_epoch", "wait", "stopped_epoch", "cooldown_counter")
"""What Keras' callbacks count from epoch to epoch. Not `min_delta`: its sign turns in the first epoch of each start."""

GENERATORS = ("seed_generator", "generator")
"""What Keras layers call their random numbers: dropout, and layers of augmentation."""


class Resume(keras.callbacks.Callback):  # type: ignore[misc]
    """Saves, after each epoch, all that the next one depends on; must be the last of the callbacks.

    That is: weights, the optimizer's variables, the history, and what the callbacks in `watched` have counted. Random
    numbers need no saving: each epoch starts them anew from the seed and its own number. `save` gets the bytes, numpy's
    npz without pickle; `saved` is what it got last by a run of the same recipe over the same rows, None for none. A
    phase that begins after `first` epochs takes from an earlier phase the weights and the history alone.
    """

    def __init__(
        self,
        seed: int,
        watched: Sequence[keras.callbacks.Callback],
        save: Callable[[bytes], None],
        saved: bytes | None,
        first: int = 0,
    ) -> None:
        super().__init__()
        self.seed, self.watched, self.save, self.first = seed, list(watched), save, first
        self.history: dict[str, list[float]] = {}
        self.stopped = False
        self.state: list[Arrays] = []
        if saved is not None:
            self.state, facts = unpacked(saved, "weights", "optimizer", "best")
            self.history, self.stopped, self.counted = facts["history"], facts["stopped"], facts["counted"]

    @property
    def epochs(self) -> int:
        """Epochs that are done."""
        return len(self.history.get("loss", ()))

    def on_train_begin(self, logs: Any = None) -> None:
        """Put back what was saved; the watched callbacks have just forgotten what they had counted."""
        if not self.state:
            return
        weights, optimizer, best = self.state
        self.model.set_weights(weights)
        if self.epochs == self.first:
            return
        self.model.optimizer.build(self.model.trainable_variables)
        for variable, value in zip(self.model.optimizer.variables, optimizer, strict=True):
            variable.assign(value)
        for callback, numbers in zip(self.watched, self.counted, strict=True):
            vars(callback).update(numbers)
            if getattr(callback, "restore_best_weights", False):
                callback.best_weights = best or None

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Start the random numbers of this epoch."""
        restart(self.model, self.seed, epoch)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Save, unless the loss is no number: from there is nowhere to go on to."""
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(float(value))
        if np.isfinite(self.history["loss"][-1]):
            self.save(self._packed())

    def _packed(self) -> bytes:
        best = [getattr(callback, "best_weights", None) for callback in self.watched]
        arrays = {
            "weights": self.model.get_weights(),
            "optimizer": [np.asarray(variable) for variable in self.model.optimizer.variables],
            "best": next((weights for weights in best if weights is not None), []),
        }
        counted = [
            {name: value for name in COUNTED if type(value := vars(callback).get(name)) in (int, float)}
            for callback in self.watched
        ]
        return packed(arrays, {"history": self.history, "stopped": bool(self.model.stop_training), "counted": counted})


def packed(arrays: dict[str, Arrays], facts: dict[str, Any]) -> bytes:
    """Lists of arrays by name, and what JSON can say, as numpy's npz."""
    named = {f"{kind}{at}": array for kind, many in arrays.items() for at, array in enumerate(many)}
    content = io.BytesIO()
    np.savez(content, facts=np.frombuffer(json.dumps(facts).encode(), np.uint8), **named)
    return content.getvalue()


def unpacked(content: bytes, *kinds: str) -> tuple[list[Arrays], dict[str, Any]]:
    """The lists of arrays of some names, and the facts, that `packed` made; no pickle, so no code runs."""
    state = dict(np.load(io.BytesIO(content), allow_pickle=False))
    lists: list[Arrays] = []
    for kind in kinds:
        lists.append([])
        while (name := f"{kind}{len(lists[-1])}") in state:
            lists[-1].append(state[name])
    return lists, json.loads(state["facts"].tobytes())


def restart(model: keras.Model, seed: int, epoch: int) -> None:
    """Start the random numbers of each layer anew, so that they depend on the seed and the epoch alone."""
    for index, layer in enumerate(model._flatten_layers()):
        for name in GENERATORS:
            if isinstance(generator := getattr(layer, name, None), keras.random.SeedGenerator):
                generator.state.assign(np.array([seed + 1_000 * index, epoch], "uint32"))
