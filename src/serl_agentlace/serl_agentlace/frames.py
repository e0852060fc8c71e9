# SPDX-License-Identifier: Apache-2.0
"""Frames of agentlace: a pickle, compressed by LZ4. What arrives is read as data and never run."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from typing import Any, ClassVar, Final, NamedTuple

import numpy as np
from serl_config.optional import optional_module
from serl_rl.pickles.arrays import PickledArray
from serl_rl.pickles.machine import Refused, kind_of
from serl_rl.pickles.transitions import TransitionMachine

MAX_FRAME_BYTES: Final = 2**30
"""[bytes] of a frame, compressed."""
MAX_CONTENT_BYTES: Final = 2**31
"""[bytes] that a frame may unpack to: LZ4 makes 250 bytes of one."""
MAX_DEPTH: Final = 32
MAX_VALUES: Final = 5_000_000

_PROTOCOL: Final = 4  # of pickle: what every Python 3.8 and later reads


class AgentlaceError(RuntimeError):
    """Something of agentlace's wire cannot be used: says what was expected, what was found, and what to do."""


class FrameError(AgentlaceError):
    """A frame is none, or holds something else than arrays and plain values."""


class _Unpacked(NamedTuple):
    value: Any
    values: int = 1
    """Values in it, each as often as it is there: whoever walks through it meets so many."""
    height: int = 0
    """How deep it is."""


class _FrameMachine(TransitionMachine):
    """Reads what agentlace sends: transitions, and parameters as JAX and numpy hold them."""

    most_instructions: ClassVar[int] = 20_000_000
    most_text: ClassVar[int] = MAX_CONTENT_BYTES


def encode_frame(value: Any) -> bytes:
    """A frame with a value: dictionaries, lists, tuples, numbers, texts, and arrays of numpy, JAX or PyTorch.

    Raises:
        FrameError: it holds anything else, which the other end would have to run to read.
    """
    return bytes(_lz4().compress(pickle.dumps(_plain(value, MAX_DEPTH), protocol=_PROTOCOL)))


def decode_frame(frame: bytes) -> Any:
    """The value in a frame that anybody may have sent. Arrays are numpy's, and may be written to.

    Raises:
        FrameError: it is larger than `MAX_FRAME_BYTES`, or than `MAX_CONTENT_BYTES` when it is unpacked, damaged, or
            holds anything but arrays and plain values. Nothing in it is run.
    """
    if len(frame) > MAX_FRAME_BYTES:
        raise FrameError(f"expected a frame of at most {MAX_FRAME_BYTES >> 20} MiB, found {len(frame) >> 20} MiB")
    decompressor = _lz4().LZ4FrameDecompressor()
    try:
        content = decompressor.decompress(frame, max_length=MAX_CONTENT_BYTES)
    except (RuntimeError, ValueError, MemoryError) as error:
        raise FrameError(f"expected a frame of LZ4, found {len(frame)} bytes that are none ({error!s:.80})") from error
    if not decompressor.eof:
        raise FrameError(
            f"expected a frame of at most {MAX_CONTENT_BYTES >> 20} MiB unpacked, found a larger or a cut one"
        )
    try:
        return _unpacked(_FrameMachine().run(content), MAX_DEPTH, {}).value
    except Refused as error:
        raise FrameError(f"expected arrays and plain values, found {error}; nothing of it was run") from error


def _lz4() -> Any:
    return optional_module("lz4.frame", extra="agentlace", needed_by="the wire of agentlace", error=AgentlaceError)


def _plain(value: Any, depth: int) -> Any:
    if value is None or isinstance(value, bool | int | float | str | bytes | np.generic):
        return value
    if depth == 0:
        raise FrameError(f"expected values at most {MAX_DEPTH} deep, found deeper ones")
    if isinstance(value, Mapping):
        return {str(name): _plain(each, depth - 1) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_plain(each, depth - 1) for each in value)
    if isinstance(value, np.ndarray) or hasattr(value, "__array__"):
        array = np.asarray(value)
        if array.dtype.kind in "biuf":
            return array
    raise FrameError(f"expected arrays and plain values to send, found a value of type {type(value).__name__}")


def _unpacked(value: Any, depth: int, seen: dict[int, _Unpacked | None]) -> _Unpacked:
    """What a machine read, with arrays in place of what stands for them, and each thing that is there often once."""
    if isinstance(value, PickledArray):
        if value.values is None:
            raise Refused("an array without content")
        if not value.values.ndim:
            return _Unpacked(value.values[()])
        if not value.values.flags.writeable:
            value.values = value.values.copy()
        return _Unpacked(value.values)
    if not isinstance(value, dict | list | tuple):
        if value is None or isinstance(value, bool | int | float | str | bytes | bytearray):
            return _Unpacked(value)
        raise Refused(kind_of(value))
    key = id(value)
    if key in seen:
        found = seen[key]
        if found is None:
            raise Refused("values within themselves")
        return found
    seen[key] = None
    if depth == 0:
        raise Refused(f"values more than {MAX_DEPTH} deep")
    parts = [_unpacked(each, depth - 1, seen) for each in (value.values() if isinstance(value, dict) else value)]
    inner = [part.value for part in parts]
    found = _Unpacked(
        dict(zip(value, inner, strict=True)) if isinstance(value, dict) else type(value)(inner),
        1 + sum([part.values for part in parts]),
        1 + max([part.height for part in parts], default=0),
    )
    if found.values > MAX_VALUES:
        raise Refused(f"more than {MAX_VALUES} values")
    if found.height > MAX_DEPTH:
        raise Refused(f"values more than {MAX_DEPTH} deep")
    seen[key] = found
    return found
