# SPDX-License-Identifier: Apache-2.0
"""Chunks for the tests of this package; lets them import the helpers here."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from serl_rl.storage.chunk import Chunk, TransitionSpec

sys.path.insert(0, str(Path(__file__).parent))

STATE = TransitionSpec({"state": ((5,), "float32")}, action_dim=2)
FEATURES = TransitionSpec(
    {"state": ((3,), "float32"), "wrist": ((3, 2, 2, 4), "float16")}, action_dim=2, encoder="0123456789abcdef"
)
IMAGES = TransitionSpec({"state": ((3,), "float32"), "wrist": ((4, 4, 3), "uint8")}, action_dim=2)


def build_chunk(spec: TransitionSpec, n: int, *, seed: int = 0, last: bool = False, **changes: Any) -> Chunk:
    """A valid chunk with random values; an ended one terminates."""
    rng = np.random.default_rng(seed)

    def values(shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
        if dtype == "uint8":
            return rng.integers(0, 256, shape, dtype=np.uint8)
        return rng.standard_normal(shape).astype(dtype)

    history = min(spec.frame_stack - 1, changes.get("first_step", 0))
    mask = np.ones(n, np.float32)
    mask[-1] = float(not last)
    content: dict[str, Any] = {
        "observation": {
            name: values((n + 1 + (0 if entry.kind == "vector" else history), *entry.shape), entry.dtype)
            for name, entry in spec.observation.items()
        },
        "action": rng.uniform(-1, 1, (n, spec.action_dim)).astype(np.float32),
        "reward": rng.standard_normal(n).astype(np.float32),
        "mask": mask,
        "truncated": np.zeros(n, np.bool_),
        "intervention": rng.random(n) < 0.3,
        "policy_version": rng.integers(0, 100, n, dtype=np.uint64),
        "actor_id": "actor",
        "episode": 1,
        "first_step": 0,
        "demonstration": False,
        "last": last,
        "success": last,
        "encoder": spec.encoder,
        "frame_stack": spec.frame_stack,
    }
    return Chunk(**(content | changes))


def build_episode(spec: TransitionSpec, length: int, pieces: list[int], **changes: Any) -> list[Chunk]:
    """An ended episode of `length` transitions cut into chunks behind the steps in `pieces`."""
    whole = build_chunk(spec, length, last=True, **changes)
    bounds = [0, *sorted(set(pieces)), length]
    chunks = []
    for start, stop in pairwise(bounds):
        keep = np.zeros(length, np.bool_)
        keep[start:stop] = True
        chunks.extend(whole.select(keep))
    return chunks


@pytest.fixture(scope="session")
def state_spec() -> TransitionSpec:
    return STATE


@pytest.fixture(scope="session")
def image_spec() -> TransitionSpec:
    return IMAGES


@pytest.fixture(scope="session")
def features_spec() -> TransitionSpec:
    return FEATURES


@pytest.fixture(scope="session")
def stacked_images_spec() -> TransitionSpec:
    return replace(IMAGES, frame_stack=3)


@pytest.fixture(scope="session")
def stacked_features_spec() -> TransitionSpec:
    return replace(FEATURES, frame_stack=4)


@pytest.fixture(scope="session")
def make_chunk() -> Callable[..., Chunk]:
    return build_chunk


@pytest.fixture(scope="session")
def make_episode() -> Callable[..., list[Chunk]]:
    return build_episode


@pytest.fixture(scope="session")
def same_chunk() -> Callable[[Chunk, Chunk], bool]:
    def same(first: Chunk, second: Chunk) -> bool:
        for name in vars(first):
            a, b = getattr(first, name), getattr(second, name)
            if name == "observation":
                equal = set(a) == set(b) and all(np.array_equal(a[key], b[key]) for key in a)
            else:
                equal = np.array_equal(a, b)
            if not equal:
                return False
        return True

    return same


@pytest.fixture(scope="session")
def typical() -> Callable[[Callable[[int], float], float], float]:
    """What learning reaches: with the first seed, or the median of three if that is below `enough`.

    A few of a hundred seeds are unlucky, and others on another processor, where sums round differently.
    """

    def reached(rate: Callable[[int], float], enough: float) -> float:
        first = rate(0)
        return first if first >= enough else float(np.median([first, rate(1), rate(2)]))

    return reached


@pytest.fixture(scope="module")
def cheap_compilation() -> Iterator[None]:
    """Compile fast instead of well: for tests of mathematics, which run everything once."""
    import jax

    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
