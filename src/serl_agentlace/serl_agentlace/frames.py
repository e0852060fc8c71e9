# SPDX-License-Identifier: Apache-2.0
"""Frames of agentlace: a pickle, compressed by LZ4. What arrives is read as data and never run."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from typing import Any, ClassVar, Final

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
        return _unpacked(_FrameMachine().run(content), MAX_DEPTH, [MAX_VALUES])
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


def _unpacked(value: Any, depth: int, budget: list[int]) -> Any:
    """What a machine read, with arrays in place of what stands for them."""
    budget[0] -= 1
    if budget[0] < 0:
        raise Refused(f"more than {MAX_VALUES} values")
    if isinstance(value, PickledArray):
        if value.values is None:
            raise Refused("an array without content")
        if not value.values.ndim:
            return value.values[()]
        if not value.values.flags.writeable:  # an observation is that after one step and before the next: one copy
            value.values = value.values.copy()
        return value.values
    if isinstance(value, dict | list | tuple):
        if depth == 0:
            raise Refused(f"values more than {MAX_DEPTH} deep")
        if isinstance(value, dict):
            return {name: _unpacked(each, depth - 1, budget) for name, each in value.items()}
        return type(value)(_unpacked(each, depth - 1, budget) for each in value)
    if value is None or isinstance(value, bool | int | float | str | bytes | bytearray):
        return value
    raise Refused(kind_of(value))
