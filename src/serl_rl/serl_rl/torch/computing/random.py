# SPDX-License-Identifier: Apache-2.0
"""Random numbers from keys, the same as JAX draws: Threefry-2x32 (Salmon et al., SC 2011) in counter mode.

A key is two words, int64 (2,) with values below 2^32; drawing with a key twice gives the same twice. So an agent that
goes on in the other backend draws what it would have drawn, and both can be compared update by update.
"""

from __future__ import annotations

import math

import torch

from serl_rl.torch.computing import threefry
from serl_rl.torch.computing.threefry import WORD


def from_seed(seed: int, device: torch.device | None = None) -> torch.Tensor:
    """The key (2,) of a seed of 64 bits."""
    return torch.tensor([seed >> 32 & WORD, seed & WORD], dtype=torch.int64, device=device)


def split(key: torch.Tensor, count: int = 2) -> tuple[torch.Tensor, ...]:
    """Keys (2,) that are independent of each other and take the place of this one."""
    return _two_words(key, 0, count).T.contiguous().unbind(0)


def fold_in(key: torch.Tensor, number: int) -> torch.Tensor:
    """The key (2,) that belongs to a number below 2^32, one of its own for each."""
    return _two_words(key, number, 1).reshape(2)


def uniform(key: torch.Tensor, shape: tuple[int, ...], low: float = 0.0, high: float = 1.0) -> torch.Tensor:
    """Numbers in [low, high), float32."""
    # 23 random bits behind the point of a number in [1, 2).
    unit = (_bits(key, shape) >> 9).to(torch.float32) * 2.0**-23
    return torch.clamp(unit * (high - low) + low, min=low)


def normal(key: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """Standard normal numbers, float32."""
    if key.device.type == "cpu":
        return threefry.normal(key, math.prod(shape)).reshape(shape)
    return math.sqrt(2.0) * _erf_inverse(uniform(key, shape, -1.0 + 2.0**-24, 1.0))


def truncated_normal(key: torch.Tensor, shape: tuple[int, ...], bound: float = 2.0) -> torch.Tensor:
    """Standard normal numbers of which none is beyond the bound, float32."""
    edge = math.erf(bound / math.sqrt(2.0))
    return torch.clamp(math.sqrt(2.0) * _erf_inverse(uniform(key, shape, -edge, edge)), -bound, bound)


def bernoulli(key: torch.Tensor, probability: float, shape: tuple[int, ...]) -> torch.Tensor:
    """True with a probability."""
    return uniform(key, shape) < probability


def randint(key: torch.Tensor, shape: tuple[int, ...], low: int, high: int) -> torch.Tensor:
    """Integers in [low, high), int64. `high` - `low` is at most 2^16."""
    first, second = split(key)
    span = high - low
    # 64 random bits modulo the span, by halves: the larger half counts 2^32 modulo the span.
    weight = (2**16 % span) ** 2 % span
    higher, lower = _bits(first, shape), _bits(second, shape)
    return low + ((higher % span) * weight + lower % span) % span


def permutation(key: torch.Tensor, count: int) -> torch.Tensor:
    """The numbers 0 to count - 1 in random order, int64 (count,)."""
    order = torch.arange(count, device=key.device)
    # Sorted by random words, often enough that equal words leave no trace.
    for _ in range(math.ceil(3.0 * math.log(max(1, count)) / math.log(WORD))):
        key, own = split(key)
        order = order[torch.sort(_bits(own, (count,)), stable=True).indices]
    return order


def _bits(key: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """Random words, int64 with values below 2^32."""
    high, low = _two_words(key, 0, math.prod(shape))
    return (high ^ low).reshape(shape)


def _two_words(key: torch.Tensor, first: int, count: int) -> torch.Tensor:
    """Both words, int64 (2, `count`), at the counters (0, `first`), (0, `first` + 1) ..."""
    if key.device.type == "cpu":
        return threefry.two_words(key, first, count)
    counters = torch.arange(first, first + count, device=key.device)
    return torch.stack(threefry.words((key[0], key[1]), counters))


def _erf_inverse(x: torch.Tensor) -> torch.Tensor:
    w = -torch.log1p(-x * x)
    near = w < 5.0
    w = torch.where(near, w - 2.5, torch.sqrt(w) - 3.0)
    result = torch.zeros_like(x)
    for centre, tail in zip(threefry.CENTRE, threefry.TAIL, strict=True):
        result = result * w + torch.where(near, centre, tail)
    return result * x
