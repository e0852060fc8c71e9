# SPDX-License-Identifier: Apache-2.0
"""Threefry-2x32 with 20 rounds (Salmon et al., SC 2011) on a CPU, as operators that PyTorch calls and traces.

A hundred operations on a few words each would take PyTorch longer than the update that needs them, and a compiler of
programs longer than all the rest of it. Here they are numpy's, in place, or Python's own where there are few words.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

WORD = 0xFFFFFFFF
ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
PARITY = 0x1BD11BDA

# Giles, Approximating the erfinv function, GPU Computing Gems 2011: polynomials for w < 5 and beyond.
CENTRE = (2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087, -0.00125372503,
          -0.00417768164, 0.246640727, 1.50140941)  # fmt: skip
TAIL = (-0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773, -0.0076224613,
        0.00943887047, 1.00167406, 2.83297682)  # fmt: skip

# Numbers as arrays () once: numpy takes longer to make one of a Python number than to add it to a minibatch of words.
_SHIFTS = {bits: (np.array(bits, np.uint32), np.array(32 - bits, np.uint32)) for group in ROTATIONS for bits in group}
_SINGLE = {factor: np.array(factor, np.float32) for factor in (*CENTRE, *TAIL)}

_FEW = 6  # words up to which Python's numbers are faster than arrays


def words(key: tuple[Any, Any], low: Any) -> tuple[Any, Any]:
    """Both words at the counters (0, low), of numbers of Python or of tensors int64, with values below 2^32."""
    first, second = key
    keys = (first, second, first ^ second ^ PARITY)
    x, y = low * 0 + first, (low + second) & WORD
    for block in range(5):
        for bits in ROTATIONS[block % 2]:
            x = (x + y) & WORD
            y = (y << bits | y >> (32 - bits)) & WORD ^ x
        x = (x + keys[(block + 1) % 3]) & WORD
        y = (y + keys[(block + 2) % 3] + block + 1) & WORD
    return x, y


def array_words(key: tuple[int, int], count: int) -> NDArray[np.uint32]:
    """Both words, uint32 (2, `count`), at the counters (0, 0) to (0, `count` - 1)."""
    keys = (*key, key[0] ^ key[1] ^ PARITY)
    result = np.empty((2, count), np.uint32)
    x, y = result
    x.fill(keys[0])
    y[...] = np.arange(count, dtype=np.uint32)
    y += np.uint32(keys[1])
    shifted = np.empty_like(y)
    for block in range(5):
        for bits in ROTATIONS[block % 2]:
            left, right = _SHIFTS[bits]
            np.add(x, y, x)
            np.left_shift(y, left, shifted)
            np.right_shift(y, right, y)
            np.bitwise_or(y, shifted, y)
            np.bitwise_xor(y, x, y)
        x += np.uint32(keys[(block + 1) % 3])
        y += np.uint32(keys[(block + 2) % 3] + block + 1 & WORD)
    return result


def _two_words(key: torch.Tensor, first: int, count: int) -> torch.Tensor:
    own: Any = tuple(key.tolist())
    if count <= _FEW:
        found = [words(own, number) for number in range(first, first + count)]
        return torch.tensor(found, dtype=torch.int64).T.contiguous()
    return torch.from_numpy(array_words(own, first + count)[:, first:].astype(np.int64))


def _normal(key: torch.Tensor, count: int) -> torch.Tensor:
    drawn = array_words(tuple(key.tolist()), count)
    bits = np.bitwise_xor(drawn[0], drawn[1], drawn[0])
    bits >>= np.uint32(9)
    low = np.float32(-1.0 + 2.0**-24)
    x = bits.astype(np.float32)
    x *= np.float32(2.0**-23)
    x *= np.float32(1.0) - low
    x += low
    np.maximum(x, low, out=x)
    w = np.log1p(-x * x)
    np.negative(w, out=w)
    result = _polynomial(CENTRE, w - np.float32(2.5))
    (far,) = np.nonzero(w >= np.float32(5.0))
    if far.size:
        result[far] = _polynomial(TAIL, np.sqrt(w[far]) - np.float32(3.0))
    result *= x
    result *= np.float32(np.sqrt(2.0))
    return torch.from_numpy(result)


def _polynomial(factors: tuple[float, ...], x: NDArray[np.float32]) -> NDArray[np.float32]:
    result = np.full_like(x, factors[0])
    for factor in factors[1:]:
        np.multiply(result, x, result)
        np.add(result, _SINGLE[factor], result)
    return result


_library = torch.library.Library("serl", "DEF")
_library.define("threefry(Tensor key, int first, int count) -> Tensor")
_library.impl("threefry", _two_words, "CPU")
_library.impl("threefry", lambda key, first, count: key.new_empty((2, count)), "Meta")
_library.define("normal(Tensor key, int count) -> Tensor")
_library.impl("normal", _normal, "CPU")
_library.impl("normal", lambda key, count: key.new_empty((count,), dtype=torch.float32), "Meta")

two_words = torch.ops.serl.threefry
"""Both words, int64 (2, count), at the counters (0, first), (0, first + 1) ... with a key (2,) in the CPU's memory."""
normal = torch.ops.serl.normal
"""Standard normal numbers, float32 (count,), with a key (2,) in the CPU's memory."""
