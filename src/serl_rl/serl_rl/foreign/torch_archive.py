# SPDX-License-Identifier: Apache-2.0
"""Reads what `torch.save` of PyTorch 1.6 and later wrote, without PyTorch: tensors and plain containers, nothing else.

Such a file is a zip archive without compression: a pickle, and the numbers of each tensor in a member of its own. The
pickle is interpreted by a machine that imports nothing and calls nothing. Of settings that OmegaConf made the plain
values are read; interpolations stay the text that they are.
"""

from __future__ import annotations

import io
import math
import struct
import zipfile
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray
from serl_config.files import FileError, read_bytes

from serl_rl.foreign.errors import ForeignError
from serl_rl.pickles.machine import Refused, kind_of
from serl_rl.pickles.tensors import Storage, Tensor, TensorMachine, view

MAX_BYTES: Final = 2**30
MAX_PICKLE_BYTES: Final = 2**24
MAX_MEMBERS: Final = 20_000
MAX_VALUES: Final = 100_000
MAX_DEPTH: Final = 32
MOST_SHOWN: Final = 8
"""How often, on the average, a number may be shown by tensors: an encoder has a name in actor, critic and targets."""

_EXPECTED: Final = "a file of torch.save (PyTorch 1.6 or later) with tensors and plain containers"


class _Plain(Enum):
    """What such a pickle may name beside tensors. Nothing of it is imported."""

    DEFAULT_DICTIONARY = "defaultdict"
    TYPE = "a type"
    SETTINGS = "a class of OmegaConf"


class _Settings:
    """An object of OmegaConf, before and after its state is set."""

    def __init__(self) -> None:
        self.state: Mapping[str, Any] = {}


class _ArchiveMachine(TensorMachine):
    """Reads settings of OmegaConf, too."""

    names: ClassVar[Mapping[str, object]] = {
        **TensorMachine.names,
        "collections defaultdict": _Plain.DEFAULT_DICTIONARY,
        **{f"__builtin__ {name}": _Plain.TYPE for name in ("dict", "list", "int", "long", "str", "float", "bool")},
        **{f"builtins {name}": _Plain.TYPE for name in ("dict", "list", "int", "str", "float", "bool")},
        "typing Any": _Plain.TYPE,
        **{
            f"omegaconf.{name}": _Plain.SETTINGS
            for name in (
                "dictconfig DictConfig",
                "listconfig ListConfig",
                "base ContainerMetadata",
                "base Metadata",
                "nodes AnyNode",
            )
        },
    }

    def step(self, name: str, argument: Any) -> None:
        """Do one instruction, also that of settings."""
        if name == "NEWOBJ":
            function, arguments = self.pop(2)
            if function is not _Plain.SETTINGS or arguments != ():
                raise Refused(f"a new object of {kind_of(function)}")
            self.stack.append(_Settings())
        else:
            super().step(name, argument)

    def reduce(self, function: object, arguments: object) -> object:
        """A dictionary, a tensor, or a number's type. Raises Refused for every other call."""
        match function, arguments:
            case _Plain.DEFAULT_DICTIONARY, (_Plain.TYPE,) | ():
                return {}
        return super().reduce(function, arguments)

    def build(self, target: object, state: object) -> None:
        """Set the state of settings; pass over what PyTorch notes about the versions of modules."""
        if isinstance(target, _Settings) and isinstance(state, dict):
            target.state = state
        else:
            super().build(target, state)


def read_torch_archive(path: Path) -> dict[str, Any]:
    """The dictionary in a file of `torch.save`: arrays, dictionaries, lists, numbers, texts.

    Raises:
        ForeignError: there is no such file, or it is too large, cut, or holds anything else.
    """
    try:
        data = read_bytes(path, MAX_BYTES)
    except FileError as error:
        raise ForeignError(path, _EXPECTED, error.reason) from error
    try:
        return _read(data)
    except (Refused, zipfile.BadZipFile, NotImplementedError, EOFError, OSError, ValueError, struct.error) as error:
        raise ForeignError(path, _EXPECTED, str(error) or type(error).__name__) from error


def _read(data: bytes) -> dict[str, Any]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {info.filename: info for info in archive.infolist()}
        if len(members) > MAX_MEMBERS:
            raise Refused(f"more than {MAX_MEMBERS} members")
        for info in members.values():
            if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
                raise Refused(f"{info.filename[:80]!r}, which is compressed or encrypted")
        pickles = [name for name in members if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise Refused(f"{len(pickles)} members */data.pkl")
        root = pickles[0].removesuffix("data.pkl")
        if members[pickles[0]].file_size > MAX_PICKLE_BYTES:
            raise Refused(f"a pickle of more than {MAX_PICKLE_BYTES >> 20} MiB")
        order = f"{root}byteorder"
        if order in members and (members[order].file_size > 8 or archive.read(order) != b"little"):
            raise Refused("numbers that are not little-endian")
        tree = _ArchiveMachine().run(archive.read(pickles[0]))
        if not isinstance(tree, dict):
            raise Refused(f"{kind_of(tree)} that is no dictionary")
        numbers: dict[Storage, NDArray[Any]] = {}
        # Members may lie over each other, and many tensors may show the same numbers.
        unread, unseen = len(data), MOST_SHOWN * len(data)

        def array(tensor: Tensor) -> NDArray[Any]:
            nonlocal unread, unseen
            storage = tensor.storage
            unseen -= math.prod(tensor.shape) * storage.dtype.itemsize
            if unseen < 0:
                raise Refused(f"tensors of more than {MOST_SHOWN} times as many bytes as the file has")
            if storage not in numbers:
                member = members.get(f"{root}data/{storage.key}")
                size = storage.size * storage.dtype.itemsize
                if member is None or member.file_size != size:
                    raise Refused(f"no {size} bytes of a tensor in {root}data/{storage.key}: cut or damaged")
                unread -= size
                if unread < 0:
                    raise Refused("members that lie over each other")
                numbers[storage] = np.frombuffer(archive.read(member), storage.dtype)
            return view(numbers[storage], tensor)

        return dict(_plain(tree, array, MAX_DEPTH, [MAX_VALUES]))


def _plain(value: Any, array: Any, depth: int, budget: list[int]) -> Any:
    """What the machine made, without the objects of PyTorch and OmegaConf."""
    budget[0] -= 1
    if budget[0] < 0 or depth < 0:
        raise Refused(f"more than {MAX_VALUES} values, or values more than {MAX_DEPTH} deep")
    if isinstance(value, Tensor):
        return array(value)
    if isinstance(value, _Settings):
        held = value.state.get("_content", value.state.get("_val"))
        return _plain(held, array, depth - 1, budget)
    if isinstance(value, dict):
        return {name: _plain(each, array, depth - 1, budget) for name, each in value.items()}
    if isinstance(value, list | tuple) and not isinstance(value, Storage):
        return [_plain(each, array, depth - 1, budget) for each in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise Refused(f"{kind_of(value)} as a value")
