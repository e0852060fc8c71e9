# SPDX-License-Identifier: Apache-2.0
"""Reads the published ``resnet10_params.pkl`` without unpickling it.

A pickle is a program that may call anything. This reader interprets the few instructions that a pickled dictionary of
numpy or JAX arrays consists of, imports nothing, calls nothing, and refuses every other instruction. Imports no JAX.
"""

from __future__ import annotations

import hashlib
import pickletools
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from serl_config.files import FileError, read_bytes

from serl_rl.encoders.file import EncoderError

MAX_BYTES: Final = 2**28
MAX_INSTRUCTIONS: Final = 200_000
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
_CONSTANTS: Final = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_VALUES: Final = (
    "BININT",
    "BININT1",
    "BININT2",
    "BINUNICODE",
    "SHORT_BINUNICODE",
    "BINBYTES",
    "SHORT_BINBYTES",
    "BINBYTES8",
    "BYTEARRAY8",
)
_TUPLES: Final = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class _Refused(Exception):
    """The pickle holds something else than arrays; the message says what."""


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
    except _Refused as error:
        raise EncoderError(path, _EXPECTED, str(error)) from error


def _flat(tree: object, prefix: str, depth: int, budget: list[int]) -> Iterator[tuple[str, NDArray[Any]]]:
    if not isinstance(tree, dict) or not tree:
        raise _Refused(f"{_kind(tree)} at {prefix or 'the top'}")
    if depth == 0:
        raise _Refused(f"dictionaries more than {MAX_DEPTH} deep")
    for name, value in tree.items():
        budget[0] -= 1
        if budget[0] < 0:
            raise _Refused(f"more than {MAX_ARRAYS} entries")
        if isinstance(value, _Array):
            if value.values is None:
                raise _Refused(f"an array without content at {prefix}{name}")
            yield f"{prefix}{name}", value.values
        else:
            yield from _flat(value, f"{prefix}{name}/", depth - 1, budget)


def _kind(value: object) -> str:
    """What a value is, in few words: a hostile one may be too deep or long to be shown."""
    return value.value if isinstance(value, _Meaning) else f"a value of type {type(value).__name__.lstrip('_')}"


class _Interpreter:
    """The stack machine of pickle, of which only what arrays and dictionaries need is there."""

    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        self._encoded = 0

    def run(self, data: bytes) -> object:
        """The tree in `data`, with `_Array` for arrays."""
        instructions = pickletools.genops(data)
        for _ in range(MAX_INSTRUCTIONS):
            try:
                instruction, argument, position = next(instructions)
            except StopIteration:
                raise _Refused("no end") from None
            except (ValueError, OverflowError, MemoryError) as error:
                raise _Refused(f"what is not a pickle ({error!s:.80})") from None
            if instruction.name == "STOP":
                if len(self._stack) != 1:
                    raise _Refused(f"{len(self._stack)} values at its end")
                return self._stack[0]
            try:
                self._step(instruction.name, argument)
            except (IndexError, KeyError):
                raise _Refused(f"{instruction.name} at byte {position} without what it works on") from None
        raise _Refused(f"more than {MAX_INSTRUCTIONS} instructions")

    def _step(self, name: str, argument: Any) -> None:
        stack = self._stack
        if name in _VALUES:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name == "EMPTY_DICT":
            stack.append({})
        elif name in _TUPLES:
            stack.append(tuple(self._pop(_TUPLES[name])))
        elif name == "MARK":
            self._marks.append(len(stack))
        elif name == "TUPLE":
            stack.append(tuple(self._pop_to_mark()))
        elif name in ("SETITEM", "SETITEMS"):
            self._set_items(self._pop(2) if name == "SETITEM" else self._pop_to_mark())
        elif name in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            self._memo[len(self._memo) if name == "MEMOIZE" else argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(self._memo[argument])
        elif name == "GLOBAL":
            stack.append(_named(argument))
        elif name == "STACK_GLOBAL":
            module, attribute = self._pop(2)
            stack.append(_named(f"{module} {attribute}" if isinstance(module, str) else "no text"))
        elif name == "REDUCE":
            function, arguments = self._pop(2)
            stack.append(self._reduce(function, arguments))
        elif name == "BUILD":
            (state,) = self._pop(1)
            _build(stack[-1], state)
        elif name not in ("PROTO", "FRAME"):
            raise _Refused(f"the instruction {name}")

    def _pop(self, count: int) -> list[Any]:
        """The topmost values; those below the last mark are out of reach."""
        floor = self._marks[-1] if self._marks else 0
        if len(self._stack) - count < floor:
            raise IndexError
        values = self._stack[len(self._stack) - count :]
        del self._stack[len(self._stack) - count :]
        return values

    def _pop_to_mark(self) -> list[Any]:
        values = self._stack[self._marks[-1] :]
        del self._stack[self._marks.pop() :]
        return values

    def _set_items(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if not isinstance(target, dict) or len(items) % 2:
            raise _Refused(f"items set in {_kind(target)}")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, str) or len(key) > 200:
                raise _Refused(f"{_kind(key)} as a key")
            target[key] = value

    def _reduce(self, function: object, arguments: object) -> object:
        if not isinstance(function, _Meaning) or not isinstance(arguments, tuple):
            raise _Refused(f"a call of {_kind(function)}")
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
                    raise _Refused(f"more than {MAX_BYTES >> 20} MiB of text")
                try:
                    return text.encode("latin1")
                except UnicodeEncodeError:
                    raise _Refused("text that is not bytes") from None
            case _Meaning.FROZEN, (dict() as tree,):
                return tree
            case _Meaning.JAX, (_Meaning() as inner, tuple() as inner_arguments, tuple() as state, dict()):
                array = self._reduce(inner, inner_arguments)
                _build(array, state)
                return array
        raise _Refused(f"a call of {function.value} with other arguments than for an array of floats")


def _named(name: str) -> _Meaning:
    if name not in _GLOBALS:
        raise _Refused(f"the name {name[:80]!r}")
    return _GLOBALS[name]


def _build(target: object, state: object) -> None:
    match target, state:
        case _DType(), (3, "<", None, None, None, -1, -1, 0):
            return
        case _Array(values=None), (1, tuple() as shape, _DType() as dtype, bool() as fortran, bytes() as content):
            _filled(target, shape, dtype, fortran, content)
            return
    raise _Refused(f"the state of {_kind(target)}, which is not that of an array of floats")


def _filled(array: _Array, shape: tuple[Any, ...], dtype: _DType, fortran: bool, content: bytes | bytearray) -> _Array:
    if len(shape) > MAX_DEPTH or not all(type(size) is int and size >= 0 for size in shape):
        raise _Refused("an array without a shape")
    count = 1
    for size in shape:
        count *= size
    kind = np.dtype(f"<{dtype.code}")
    if count * kind.itemsize != len(content):
        raise _Refused(f"an array of shape {shape} with {len(content)} bytes")
    array.values = np.frombuffer(content, kind).reshape(shape, order="F" if fortran else "C")
    return array
