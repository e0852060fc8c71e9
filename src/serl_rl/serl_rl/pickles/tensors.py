# SPDX-License-Identifier: Apache-2.0
"""What PyTorch's ways to pickle a tensor mean, for a machine that unpickles nothing. PyTorch is not needed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import Enum
from typing import Any, ClassVar, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from serl_rl.pickles.machine import PickleMachine, Refused, kind_of

MAX_DIMENSIONS: Final = 8


class Meaning(Enum):
    """What such a pickle may name. Nothing of it is imported."""

    DICTIONARY = "OrderedDict"
    TENSOR = "torch's _rebuild_tensor_v2"
    FLOATS = "torch's FloatStorage"
    INTEGERS = "torch's LongStorage"


_DTYPES: Final[Mapping[Meaning, np.dtype[Any]]] = {
    Meaning.FLOATS: np.dtype("<f4"),
    Meaning.INTEGERS: np.dtype("<i8"),
}


class Storage(NamedTuple):
    """Numbers that lie beside the pickle, under a key."""

    key: str
    dtype: np.dtype[Any]
    size: int
    """How many numbers."""


class Tensor(NamedTuple):
    """A view of a storage."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class TensorMachine(PickleMachine):
    """Reads tensors of float32 and int64 in dictionaries, lists and tuples."""

    names: ClassVar[Mapping[str, object]] = {
        "collections OrderedDict": Meaning.DICTIONARY,
        "torch._utils _rebuild_tensor_v2": Meaning.TENSOR,
        "torch FloatStorage": Meaning.FLOATS,
        "torch LongStorage": Meaning.INTEGERS,
    }

    def step(self, name: str, argument: Any) -> None:
        """Do one instruction, also that of storages; raises Refused where it is not one of data."""
        if name == "BINPERSID":
            (reference,) = self.pop(1)
            self.stack.append(_storage(reference))
        else:
            super().step(name, argument)

    def reduce(self, function: object, arguments: object) -> object:
        """A dictionary or a tensor. Raises Refused for every other call."""
        match function, arguments:
            case Meaning.DICTIONARY, ():
                return {}
            case Meaning.TENSOR, (Storage() as storage, int() as offset, tuple() as shape, tuple() as strides, _, {}):
                return _tensor(storage, offset, shape, strides)
        raise Refused(
            f"a call of {function.value if isinstance(function, Enum) else kind_of(function)} that is not known"
        )

    def build(self, target: object, state: object) -> None:
        """Pass over what PyTorch notes about the versions of modules; raises Refused for any other state."""
        if not isinstance(target, dict) or not isinstance(state, dict) or state.keys() != {"_metadata"}:
            raise Refused(f"the state of {kind_of(target)}")


def view(numbers: NDArray[Any], tensor: Tensor) -> NDArray[Any]:
    """The array, in the shape of a tensor, of those numbers (N,) of its storage that it shows; not writable."""
    strides = tuple(stride * numbers.itemsize for stride in tensor.strides)
    return np.lib.stride_tricks.as_strided(numbers[tensor.offset :], tensor.shape, strides, writeable=False)


def _storage(reference: object) -> Storage:
    # An archive leaves out the last entry, a view's, which is None in older files.
    match reference:
        case ("storage", Meaning() as kind, str() as key, str(), int() as size, None) | (
            "storage",
            Meaning() as kind,
            str() as key,
            str(),
            int() as size,
        ) if kind in _DTYPES and size >= 0:
            return Storage(key, _DTYPES[kind], size)
    raise Refused("a reference to something else than a storage")


def _tensor(storage: Storage, offset: int, shape: tuple[Any, ...], strides: tuple[Any, ...]) -> Tensor:
    numbers = (offset, *shape, *strides)
    if len(shape) != len(strides) or len(shape) > MAX_DIMENSIONS or not all(type(n) is int and n >= 0 for n in numbers):
        raise Refused("a tensor without a shape")
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    # An element may not be shown twice either: a stride of nothing makes gigabytes of one number.
    if 0 in shape or last >= storage.size or math.prod(shape) > storage.size:
        raise Refused(f"a tensor {shape} that {storage.size} numbers do not hold")
    # Of an axis of one element the stride says nothing, and may be too large for numpy.
    steps = tuple(stride if size > 1 else 0 for size, stride in zip(shape, strides, strict=True))
    return Tensor(storage, offset, shape, steps)
