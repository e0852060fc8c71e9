# SPDX-License-Identifier: Apache-2.0
"""Memory for batches, used again once nobody reads it.

Fresh memory costs the kernel more time than filling it, and JAX on a CPU reads arrays in place where they are aligned.
"""

from __future__ import annotations

import math
import weakref
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

_ALIGNMENT = 64  # [bytes] what XLA asks for


class BatchMemory:
    """Makes arrays whose memory comes back when the last reference to them and to their views is gone."""

    def __init__(self) -> None:
        self._spare: dict[int, list[NDArray[np.uint8]]] = {}

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """An array (*shape,) with anything in it, like `np.empty`."""
        dtype = np.dtype(dtype)
        size = math.prod(shape) * dtype.itemsize
        spare = self._spare.setdefault(size, [])
        memory = spare.pop() if spare else _aligned(size)
        # The base of this array is no array, so it is itself the base of all views of it, and its end is theirs.
        first = np.frombuffer(memory.data, dtype)
        weakref.finalize(first, spare.append, memory)
        return first.reshape(shape)


def _aligned(size: int) -> NDArray[np.uint8]:
    memory = np.empty(size + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + size]
