# SPDX-License-Identifier: Apache-2.0
"""Reads the published ``resnet10_params.pkl`` without unpickling it.

Only numpy's and JAX's ways to pickle an array are known to it; see `PickleMachine`. Imports no JAX.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray
from serl_config.files import FileError, read_bytes

from serl_rl.encoders.file import EncoderError
from serl_rl.encoders.pickle_machine import PickleMachine, Refused, kind_of

MAX_BYTES: Final = 2**28
MAX_ARRAYS: Final = 2_000
MAX_DEPTH: Final = 8

_EXPECTED = "a pickled dictionary of numpy arrays"


class _Meaning(Enum):
    """What a pickle may name, as it stands here. Nothing of it is imported."""

    RECONSTRUCT = "numpy's _reconstruct"
    NDARRAY = "numpy's ndarray"
    DTYPE = "numpy's dtype"
    FROM_BUFFER = "numpy's _frombuffer"
    ENCODE = "_codecs.encode"
    FROZEN = "FrozenDict"
    JAX = "JAX's _reconstruct_array"


_GLOBALS: Final = {
    "numpy.core.multiarray _reconstruct": _Meaning.RECONSTRUCT,
    "numpy._core.multiarray _reconstruct": _Meaning.RECONSTRUCT,
    "numpy ndarray": _Meaning.NDARRAY,
    "numpy dtype": _Meaning.DTYPE,
    "numpy.core.numeric _frombuffer": _Meaning.FROM_BUFFER,
    "numpy._core.numeric _frombuffer": _Meaning.FROM_BUFFER,
    "_codecs encode": _Meaning.ENCODE,
    "flax.core.frozen_dict FrozenDict": _Meaning.FROZEN,
    "jax._src.array _reconstruct_array": _Meaning.JAX,
    "jax._src.device_array reconstruct_device_array": _Meaning.JAX,
}
_FLOATS: Final = ("f2", "f4", "f8")


class _DType:
    """A dtype before and after its byte order is set."""

    def __init__(self, code: str) -> None:
        self.code = code


class _Array:
    """An array before and after its content is set."""

    def __init__(self) -> None:
        self.values: NDArray[Any] | None = None


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_pickled_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """All arrays of a pickled tree of dictionaries, as "outer/inner": values that share the memory of the file's bytes.

    Raises:
        EncoderError: there is no such file, or it is too large, damaged, or holds anything but such a tree.
    """
    try:
        data = read_bytes(path, MAX_BYTES)
    except FileError as error:
        raise EncoderError(path, _EXPECTED, error.reason) from error
    try:
        return dict(_flat(_Interpreter().run(data), "", MAX_DEPTH, [MAX_ARRAYS]))
    except Refused as error:
        raise EncoderError(path, _EXPECTED, str(error)) from error


def _flat(tree: object, prefix: str, depth: int, budget: list[int]) -> Iterator[tuple[str, NDArray[Any]]]:
    if not isinstance(tree, dict) or not tree:
        raise Refused(f"{_what(tree)} at {prefix or 'the top'}")
    if depth == 0:
        raise Refused(f"dictionaries more than {MAX_DEPTH} deep")
    for name, value in tree.items():
        budget[0] -= 1
        if budget[0] < 0:
            raise Refused(f"more than {MAX_ARRAYS} entries")
        if isinstance(value, _Array):
            if value.values is None:
                raise Refused(f"an array without content at {prefix}{name}")
            yield f"{prefix}{name}", value.values
        else:
            yield from _flat(value, f"{prefix}{name}/", depth - 1, budget)


def _what(value: object) -> str:
    return value.value if isinstance(value, _Meaning) else kind_of(value)


class _Interpreter(PickleMachine):
    """What names, calls and states of arrays mean."""

    names: ClassVar[Mapping[str, object]] = _GLOBALS

    def __init__(self) -> None:
        super().__init__()
        self._encoded = 0

    def reduce(self, function: object, arguments: object) -> object:
        """An array or a part of one."""
        if not isinstance(function, _Meaning) or not isinstance(arguments, tuple):
            raise Refused(f"a call of {_what(function)}")
        match function, arguments:
            case _Meaning.RECONSTRUCT, (_Meaning.NDARRAY, (0,), b"b"):
                return _Array()
            case _Meaning.DTYPE, (str() as code, False, True) if code in _FLOATS:
                return _DType(code)
            case _Meaning.FROM_BUFFER, (bytes() | bytearray() as content, _DType() as dtype, tuple() as shape, order):
                return _filled(_Array(), shape, dtype, order == "F", content)
            case _Meaning.ENCODE, (str() as text, "latin1"):
                self._encoded += len(text)
                if self._encoded > MAX_BYTES:
                    raise Refused(f"more than {MAX_BYTES >> 20} MiB of text")
                try:
                    return text.encode("latin1")
                except UnicodeEncodeError:
                    raise Refused("text that is not bytes") from None
            case _Meaning.FROZEN, (dict() as tree,):
                return tree
            case _Meaning.JAX, (_Meaning() as inner, tuple() as inner_arguments, tuple() as state, dict()):
                array = self.reduce(inner, inner_arguments)
                self.build(array, state)
                return array
        raise Refused(f"a call of {function.value} with other arguments than for an array of floats")

    def build(self, target: object, state: object) -> None:
        """Set the content of an array, or the byte order of a dtype."""
        match target, state:
            case _DType(), (3, "<", None, None, None, -1, -1, 0):
                return
            case _Array(values=None), (1, tuple() as shape, _DType() as dtype, bool() as fortran, bytes() as content):
                _filled(target, shape, dtype, fortran, content)
                return
        raise Refused(f"the state of {_what(target)}, which is not that of an array of floats")


def _filled(array: _Array, shape: tuple[Any, ...], dtype: _DType, fortran: bool, content: bytes | bytearray) -> _Array:
    if len(shape) > MAX_DEPTH or not all(type(size) is int and size >= 0 for size in shape):
        raise Refused("an array without a shape")
    count = 1
    for size in shape:
        count *= size
    kind = np.dtype(f"<{dtype.code}")
    if count * kind.itemsize != len(content):
        raise Refused(f"an array of shape {shape} with {len(content)} bytes")
    array.values = np.frombuffer(content, kind).reshape(shape, order="F" if fortran else "C")
    return array
