# SPDX-License-Identifier: Apache-2.0
"""Reads the tensors of a file that PyTorch wrote before version 1.6 (``torch.save`` of a ``state_dict``), as data.

Such a file is five pickles, one behind the other: a magic number, a version, what the machine was like, the dictionary
of tensors, and the order of the storages, whose numbers follow. Nothing is unpickled and PyTorch is not needed.
"""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from serl_config.files import FileError, read_bytes

from serl_rl.encoders.file import EncoderError
from serl_rl.encoders.pickle_machine import PickleMachine, Refused, kind_of

MAX_BYTES: Final = 2**28
MAX_TENSORS: Final = 5_000
MAX_DIMENSIONS: Final = 8

_EXPECTED = "a dictionary of tensors as PyTorch before 1.6 writes it"
_MAGIC: Final = 0x1950A86A20F9469CFC6C
_VERSION: Final = 1001
_COUNT: Final = struct.Struct("<q")


class _Meaning(Enum):
    """What such a pickle may name. Nothing of it is imported."""

    DICTIONARY = "OrderedDict"
    TENSOR = "torch's _rebuild_tensor_v2"
    FLOATS = "torch's FloatStorage"
    INTEGERS = "torch's LongStorage"


_DTYPES: Final[Mapping[_Meaning, np.dtype[Any]]] = {
    _Meaning.FLOATS: np.dtype("<f4"),
    _Meaning.INTEGERS: np.dtype("<i8"),
}


class _Storage(NamedTuple):
    """Numbers that follow behind the pickles."""

    key: str
    dtype: np.dtype[Any]
    size: int
    """How many numbers."""


class _Tensor(NamedTuple):
    """A view of a storage."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Interpreter(PickleMachine):
    """What names and calls of tensors mean."""

    names: ClassVar[Mapping[str, object]] = {
        "collections OrderedDict": _Meaning.DICTIONARY,
        "torch._utils _rebuild_tensor_v2": _Meaning.TENSOR,
        "torch FloatStorage": _Meaning.FLOATS,
        "torch LongStorage": _Meaning.INTEGERS,
    }

    def step(self, name: str, argument: Any) -> None:
        """Do one instruction, also those of numbers, lists and storages."""
        if name == "LONG1":
            self.stack.append(argument)
        elif name == "EMPTY_LIST":
            self.stack.append([])
        elif name in ("APPEND", "APPENDS"):
            items = self.pop(1) if name == "APPEND" else self.pop_to_mark()
            if not isinstance(self.stack[-1], list):
                raise Refused(f"items appended to {kind_of(self.stack[-1])}")
            self.stack[-1].extend(items)
        elif name == "BINPERSID":
            (reference,) = self.pop(1)
            self.stack.append(_storage(reference))
        else:
            super().step(name, argument)

    def reduce(self, function: object, arguments: object) -> object:
        """A dictionary or a tensor."""
        match function, arguments:
            case _Meaning.DICTIONARY, ():
                return {}
            case _Meaning.TENSOR, (_Storage() as storage, int() as offset, tuple() as shape, tuple() as strides, _, {}):
                return _tensor(storage, offset, shape, strides)
        raise Refused(
            f"a call of {function.value if isinstance(function, _Meaning) else kind_of(function)} that is not known"
        )

    def build(self, target: object, state: object) -> None:
        """Pass over what PyTorch notes about the versions of modules."""
        if not isinstance(target, dict) or not isinstance(state, dict) or state.keys() != {"_metadata"}:
            raise Refused(f"the state of {kind_of(target)}")


def read_torch_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """All tensors of a dictionary that PyTorch wrote, by their names: float32 or int64, in memory of the file's bytes.

    Raises:
        EncoderError: there is no such file, or it is too large, damaged, cut, or holds anything but such tensors.
    """
    try:
        data = read_bytes(path, MAX_BYTES)
    except FileError as error:
        raise EncoderError(path, _EXPECTED, error.reason) from error
    try:
        return _read(data)
    except Refused as error:
        raise EncoderError(path, _EXPECTED, str(error)) from error


def _read(data: bytes) -> dict[str, NDArray[Any]]:
    file = io.BytesIO(data)
    if data.startswith(b"PK"):
        raise Refused("an archive of a later version")
    if (found := _Interpreter().run(file)) != _MAGIC:
        raise Refused(f"another magic number ({kind_of(found)})")
    if (found := _Interpreter().run(file)) != _VERSION:
        raise Refused(f"another version than {_VERSION} ({kind_of(found)})")
    about = _Interpreter().run(file)
    if not isinstance(about, dict) or about.get("little_endian") is not True:
        raise Refused("numbers that are not little-endian")
    tensors, order = _Interpreter().run(file), _Interpreter().run(file)
    if (
        not isinstance(tensors, dict)
        or not tensors
        or not all(isinstance(value, _Tensor) for value in tensors.values())
    ):
        raise Refused(f"{kind_of(tensors)} that is no dictionary of tensors alone")
    if len(tensors) > MAX_TENSORS:
        raise Refused(f"more than {MAX_TENSORS} tensors")
    storages = _storages({tensor.storage for tensor in tensors.values()}, order, file, data)
    return {name: _view(storages[tensor.storage.key], tensor) for name, tensor in tensors.items()}


def _storages(known: set[_Storage], order: object, file: BinaryIO, data: bytes) -> dict[str, NDArray[Any]]:
    """The numbers of every storage, which follow in this order."""
    by_key = {storage.key: storage for storage in known}
    if len(by_key) != len(known) or not isinstance(order, list) or set(map(str, order)) != by_key.keys():
        raise Refused("storages that are not those of the tensors")
    if len(order) != len(by_key):
        raise Refused("a storage that comes twice")
    place, found = file.tell(), {}
    for key in order:
        storage = by_key[key]
        end = place + _COUNT.size + storage.size * storage.dtype.itemsize
        if end > len(data) or _COUNT.unpack_from(data, place)[0] != storage.size:
            raise Refused(f"no {storage.size} numbers at byte {place}: the file is cut or damaged")
        found[key] = np.frombuffer(data, storage.dtype, storage.size, place + _COUNT.size)
        place = end
    if place != len(data):
        raise Refused(f"{len(data) - place} bytes behind its end")
    return found


def _storage(reference: object) -> _Storage:
    match reference:
        case ("storage", _Meaning() as kind, str() as key, str(), int() as size, None) if kind in _DTYPES and size >= 0:
            return _Storage(key, _DTYPES[kind], size)
    raise Refused("a reference to something else than a storage")


def _tensor(storage: _Storage, offset: int, shape: tuple[Any, ...], strides: tuple[Any, ...]) -> _Tensor:
    numbers = (offset, *shape, *strides)
    if len(shape) != len(strides) or len(shape) > MAX_DIMENSIONS or not all(type(n) is int and n >= 0 for n in numbers):
        raise Refused("a tensor without a shape")
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    # An element may not be shown twice either: a stride of nothing makes gigabytes of one number.
    if 0 in shape or last >= storage.size or math.prod(shape) > storage.size:
        raise Refused(f"a tensor {shape} that {storage.size} numbers do not hold")
    return _Tensor(storage, offset, shape, strides)


def _view(numbers: NDArray[Any], tensor: _Tensor) -> NDArray[Any]:
    strides = tuple(stride * numbers.itemsize for stride in tensor.strides)
    return np.lib.stride_tricks.as_strided(numbers[tensor.offset :], tensor.shape, strides, writeable=False)
