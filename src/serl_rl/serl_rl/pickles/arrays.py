# SPDX-License-Identifier: Apache-2.0
"""What numpy's and JAX's ways to pickle an array mean, for a machine that unpickles nothing. Imports no JAX."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from serl_rl.pickles.machine import PickleMachine, Refused, kind_of

MAX_DIMENSIONS: Final = 8


class Named(Enum):
    """What a pickle of arrays may name, as it stands here. Nothing of it is imported."""

    RECONSTRUCT = "numpy's _reconstruct"
    NDARRAY = "numpy's ndarray"
    DTYPE = "numpy's dtype"
    FROM_BUFFER = "numpy's _frombuffer"
    ENCODE = "_codecs.encode"
    JAX = "JAX's _reconstruct_array"
    FROZEN = "Flax's FrozenDict"
    BYTES = "bytes"


class PickledDType:
    """A dtype before and after its byte order is set."""

    def __init__(self, code: str) -> None:
        self.code = code


class PickledArray:
    """An array before and after its content is set: `values`, which share the memory of the pickle's bytes."""

    def __init__(self) -> None:
        self.values: NDArray[Any] | None = None

    def fill(
        self, shape: tuple[Any, ...], dtype: PickledDType, fortran: bool, content: bytes | bytearray
    ) -> PickledArray:
        """Set the content, and return the array. Raises Refused where it is not what the shape needs."""
        if len(shape) > MAX_DIMENSIONS or not all(type(size) is int and size >= 0 for size in shape):
            raise Refused("an array without a shape")
        count = 1
        for size in shape:
            count *= size
        kind = np.dtype(dtype.code).newbyteorder("<")
        if count * kind.itemsize != len(content):
            raise Refused(f"an array of shape {shape} with {len(content)} bytes")
        try:
            self.values = np.frombuffer(content, kind).reshape(shape, order="F" if fortran else "C")
        except ValueError:  # no values, and sizes that no array has
            raise Refused("an array of a shape that is none") from None
        return self


class ArrayMachine(PickleMachine):
    """Reads arrays of some dtypes, in tuples and in dictionaries, those of Flax too."""

    names: ClassVar[Mapping[str, object]] = {
        "numpy.core.multiarray _reconstruct": Named.RECONSTRUCT,
        "numpy._core.multiarray _reconstruct": Named.RECONSTRUCT,
        "numpy ndarray": Named.NDARRAY,
        "numpy dtype": Named.DTYPE,
        "numpy.core.numeric _frombuffer": Named.FROM_BUFFER,
        "numpy._core.numeric _frombuffer": Named.FROM_BUFFER,
        "_codecs encode": Named.ENCODE,
        "__builtin__ bytes": Named.BYTES,  # none of them, in Python 2's way
        "jax._src.array _reconstruct_array": Named.JAX,
        "jax._src.device_array reconstruct_device_array": Named.JAX,  # of older versions
        "flax.core.frozen_dict FrozenDict": Named.FROZEN,
    }
    dtypes: ClassVar[frozenset[str]] = frozenset({"f2", "f4", "f8"})
    """Codes of the dtypes that are read."""
    holds: ClassVar[str] = "floats"
    """What these are, in a word."""
    most_text: ClassVar[int] = 2**28
    """Characters that become bytes in all: one text may be encoded again and again."""

    def __init__(self) -> None:
        super().__init__()
        self._encoded = 0

    def reduce(self, function: object, arguments: object) -> object:
        """An array or a part of one. Raises Refused for every other call."""
        match function, arguments:
            case Named.RECONSTRUCT, (Named.NDARRAY, (0,), b"b"):
                return PickledArray()
            case Named.DTYPE, (str() as code, False, True) if code in self.dtypes:
                return PickledDType(code)
            case Named.FROM_BUFFER, (
                bytes() | bytearray() as content,
                PickledDType() as dtype,
                tuple() as shape,
                order,
            ):
                return PickledArray().fill(shape, dtype, order == "F", content)
            case Named.ENCODE, (str() as text, "latin1"):
                return self._encode(text)
            case Named.BYTES, ():
                return b""
            case Named.FROZEN, (dict() as tree,):
                return tree
            case Named.JAX, (Named.RECONSTRUCT as inner, tuple() as inner_arguments, tuple() as state, dict()):
                array = self.reduce(inner, inner_arguments)
                self.build(array, state)
                return array
        raise Refused(f"a call of {what(function)} with other arguments than for an array of {self.holds}")

    def build(self, target: object, state: object) -> None:
        """Set the content of an array, or the byte order of a dtype. Raises Refused for every other state."""
        match target, state:
            case PickledDType(), (3, "<" | "|" as order, None, None, None, -1, -1, 0) if (order == "|") == (
                np.dtype(target.code).itemsize == 1
            ):
                return
            case PickledArray(values=None), (
                1,
                tuple() as shape,
                PickledDType() as dtype,
                bool() as fortran,
                bytes() as content,
            ):
                target.fill(shape, dtype, fortran, content)
                return
        raise Refused(f"the state of {what(target)}, which is not that of an array of {self.holds}")

    def _encode(self, text: str) -> bytes:
        self._encoded += len(text)
        if self._encoded > self.most_text:
            raise Refused(f"more than {self.most_text >> 20} MiB of text")
        try:
            return text.encode("latin1")
        except UnicodeEncodeError:
            raise Refused("text that is not bytes") from None


def what(value: object) -> str:
    """What a value is, in few words: something that may be named, or of which type."""
    return str(value.value) if isinstance(value, Enum) else kind_of(value)
