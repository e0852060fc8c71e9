# SPDX-License-Identifier: Apache-2.0
"""Reads the tensors of a file that PyTorch wrote before version 1.6 (``torch.save`` of a ``state_dict``), as data.

Such a file is five pickles, one behind the other: a magic number, a version, what the machine was like, the dictionary
of tensors, and the order of the storages, whose numbers follow. Nothing is unpickled and PyTorch is not needed.
"""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray
from serl_config.files import FileError, read_bytes

from serl_rl.encoders.file import EncoderError
from serl_rl.pickles.machine import Refused, kind_of
from serl_rl.pickles.tensors import Storage, Tensor, TensorMachine, view

MAX_BYTES: Final = 2**28
MAX_TENSORS: Final = 5_000

_EXPECTED = "a dictionary of tensors as PyTorch before 1.6 writes it"
_MAGIC: Final = 0x1950A86A20F9469CFC6C
_VERSION: Final = 1001
_COUNT: Final = struct.Struct("<q")


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
    if (found := TensorMachine().run(file)) != _MAGIC:
        raise Refused(f"another magic number ({kind_of(found)})")
    if (found := TensorMachine().run(file)) != _VERSION:
        raise Refused(f"another version than {_VERSION} ({kind_of(found)})")
    about = TensorMachine().run(file)
    if not isinstance(about, dict) or about.get("little_endian") is not True:
        raise Refused("numbers that are not little-endian")
    tensors, order = TensorMachine().run(file), TensorMachine().run(file)
    if not isinstance(tensors, dict) or not tensors or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise Refused(f"{kind_of(tensors)} that is no dictionary of tensors alone")
    if len(tensors) > MAX_TENSORS:
        raise Refused(f"more than {MAX_TENSORS} tensors")
    storages = _storages({tensor.storage for tensor in tensors.values()}, order, file, data)
    return {name: view(storages[tensor.storage.key], tensor) for name, tensor in tensors.items()}


def _storages(known: set[Storage], order: object, file: BinaryIO, data: bytes) -> dict[str, NDArray[Any]]:
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
