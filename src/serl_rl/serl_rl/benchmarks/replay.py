# SPDX-License-Identifier: Apache-2.0
"""How much memory replay takes, and how fast it gives pictures back. Imports no JAX."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from serl_rl.replay.buffer import ReplayBuffer, empty_batch
from serl_rl.replay.tiered import Cold
from serl_rl.spec import TransitionSpec
from serl_rl.storage.chunk import Chunk

_CHUNK = 8  # transitions, as an actor sends them


def filled_buffer(
    spec: TransitionSpec,
    episodes: Sequence[Mapping[str, NDArray[Any]]],
    capacity: int,
    storage: Literal["raw", "jpeg"] = "raw",
    cold: Cold | None = None,
) -> ReplayBuffer:
    """A buffer whose oldest transitions have been overwritten.

    Args:
        spec: of the transitions.
        episodes: observations (n + 1, ...) of each; stored in turn until the buffer is full.
        capacity: of the buffer.
        storage: of pictures.
        cold: where those are that are not in memory.
    """
    buffer = ReplayBuffer(spec, capacity, storage=storage, cold=cold)
    for number in count():
        if buffer.inserted > 1.5 * capacity:
            return buffer
        episode = _truncated_episode(spec, episodes[number % len(episodes)], number)
        for first in range(0, len(episode), _CHUNK):
            steps = np.arange(len(episode))
            for chunk in episode.select((first <= steps) & (steps < first + _CHUNK)):
                buffer.insert(chunk)
    raise AssertionError("count() has no end")


def _truncated_episode(spec: TransitionSpec, observation: Mapping[str, NDArray[Any]], number: int) -> Chunk:
    n = len(next(iter(observation.values()))) - 1
    return Chunk(
        observation=observation,
        action=np.zeros((n, spec.action_dim), np.float32),
        reward=np.zeros(n, np.float32),
        mask=np.ones(n, np.float32),
        truncated=np.arange(n) == n - 1,
        intervention=np.zeros(n, np.bool_),
        policy_version=np.zeros(n, np.uint64),
        actor_id="benchmark",
        episode=number,
        first_step=0,
        demonstration=False,
        last=True,
        success=False,
        encoder=spec.encoder,
        frame_stack=spec.frame_stack,
    )


def kb_per_transition(buffer: ReplayBuffer) -> float:
    """Allocated memory for each transition that is held, in kB of 1024 bytes."""
    return buffer.nbytes / len(buffer) / 1024


def samples_per_s(buffer: ReplayBuffer, size: int = 256, seconds: float = 3.0) -> float:
    """Minibatches of `size` transitions drawn in a second."""
    rng = np.random.default_rng(0)
    batch = empty_batch(buffer.spec, (size,))
    buffer.sample_into(rng, batch)
    drawn, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        buffer.sample_into(rng, batch)
        drawn += 1
    return drawn / (time.perf_counter() - start)
