# SPDX-License-Identifier: Apache-2.0
"""Random numbers from keys, the same as JAX draws: Threefry-2x32 (Salmon et al., SC 2011) in counter mode.

A key is two words, int64 (2,) with values below 2^32; drawing with a key twice gives the same twice. So an agent that
goes on in the other backend draws what it would have drawn, and both can be compared update by update.
"""

from __future__ import annotations

import math

import torch

_WORD = 0xFFFFFFFF
_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA

# Giles, Approximating the erfinv function, GPU Computing Gems 2011: polynomials for w < 5 and beyond.
_CENTRE = (2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087, -0.00125372503,
           -0.00417768164, 0.246640727, 1.50140941)  # fmt: skip
_TAIL = (-0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773, -0.0076224613,
         0.00943887047, 1.00167406, 2.83297682)  # fmt: skip


def from_seed(seed: int, device: torch.device | None = None) -> torch.Tensor:
    """The key (2,) of a seed of 64 bits."""
    return torch.tensor([seed >> 32 & _WORD, seed & _WORD], dtype=torch.int64, device=device)


def split(key: torch.Tensor, count: int = 2) -> tuple[torch.Tensor, ...]:
    """Keys (2,) that are independent of each other and take the place of this one."""
    high, low = _threefry(key, torch.arange(count, device=key.device))
    return torch.stack([high, low], dim=1).unbind(0)


def fold_in(key: torch.Tensor, number: int) -> torch.Tensor:
    """The key (2,) that belongs to a number below 2^32, one of its own for each."""
    high, low = _threefry(key, torch.tensor([number], dtype=torch.int64, device=key.device))
    return torch.cat([high, low])


def uniform(key: torch.Tensor, shape: tuple[int, ...], low: float = 0.0, high: float = 1.0) -> torch.Tensor:
    """Numbers in [low, high), float32."""
    # 23 random bits behind the point of a number in [1, 2).
    unit = (_bits(key, shape) >> 9).to(torch.float32) * 2.0**-23
    return torch.clamp(unit * (high - low) + low, min=low)


def normal(key: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """Standard normal numbers, float32."""
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
    for _ in range(math.ceil(3.0 * math.log(max(1, count)) / math.log(_WORD))):
        key, own = split(key)
        order = order[torch.sort(_bits(own, (count,)), stable=True).indices]
    return order


def _bits(key: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """Random words, int64 with values below 2^32."""
    high, low = _threefry(key, torch.arange(math.prod(shape), device=key.device))
    return (high ^ low).reshape(shape)


def _threefry(key: torch.Tensor, low: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Both words (N,) of Threefry-2x32 with 20 rounds, at the counters (0, low)."""
    first, second = key[0], key[1]
    keys = (first, second, first ^ second ^ _PARITY)
    x = torch.zeros_like(low) + first
    y = (low + second) & _WORD
    for block in range(5):
        for bits in _ROTATIONS[block % 2]:
            x = (x + y) & _WORD
            y = (y << bits | y >> (32 - bits)) & _WORD ^ x
        x = (x + keys[(block + 1) % 3]) & _WORD
        y = (y + keys[(block + 2) % 3] + block + 1) & _WORD
    return x, y


def _erf_inverse(x: torch.Tensor) -> torch.Tensor:
    w = -torch.log1p(-x * x)
    near = w < 5.0
    w = torch.where(near, w - 2.5, torch.sqrt(w) - 3.0)
    result = torch.zeros_like(x)
    for centre, tail in zip(_CENTRE, _TAIL, strict=True):
        result = result * w + torch.where(near, centre, tail)
    return result * x
