"""A training that was killed goes on where its last epoch ended, and comes to the same network."""

import io
import json
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

Arrays = list[np.ndarray[Any, Any]]
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
        self.state = None if saved is None else dict(np.load(io.BytesIO(saved), allow_pickle=False))
        if self.state:
            facts = json.loads(self.state["facts"].tobytes())
            self.history, self.stopped, self.counted = facts["history"], facts["stopped"], facts["counted"]

    @property
    def epochs(self) -> int:
        """Epochs that are done."""
        return len(self.history.get("loss", ()))

    def on_train_begin(self, logs: Any = None) -> None:
        """Put back what was saved; the watched callbacks have just forgotten what they had counted."""
        if not self.state:
            return
        self.model.set_weights(self._arrays("weights"))
        if self.epochs == self.first:
            return
        self.model.optimizer.build(self.model.trainable_variables)
        for variable, value in zip(self.model.optimizer.variables, self._arrays("optimizer"), strict=True):
            variable.assign(value)
        for callback, numbers in zip(self.watched, self.counted, strict=True):
            vars(callback).update(numbers)
            if getattr(callback, "restore_best_weights", False):
                callback.best_weights = self._arrays("best") or None

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Start the random numbers of each layer anew, so that they depend on the seed and the epoch alone."""
        for index, layer in enumerate(self.model._flatten_layers()):
            for name in GENERATORS:
                if isinstance(generator := getattr(layer, name, None), keras.random.SeedGenerator):
                    generator.state.assign(np.array([self.seed + 1_000 * index, epoch], "uint32"))

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
            {name: value for name, value in vars(callback).items() if type(value) in (int, float)}
            for callback in self.watched
        ]
        facts = {"history": self.history, "stopped": bool(self.model.stop_training), "counted": counted}
        named = {f"{kind}{at}": array for kind, many in arrays.items() for at, array in enumerate(many)}
        packed = io.BytesIO()
        np.savez(packed, facts=np.frombuffer(json.dumps(facts).encode(), np.uint8), **named)
        return packed.getvalue()

    def _arrays(self, kind: str) -> Arrays:
        state = self.state or {}
        found: Arrays = []
        while (name := f"{kind}{len(found)}") in state:
            found.append(state[name])
        return found
