# SPDX-License-Identifier: Apache-2.0
"""A replay buffer that holds the newest transitions, stores every frame once and samples uniformly.

Flat float vectors are kept twice, as observation and as next observation, because a contiguous gather is what makes
sampling fast. Pictures and feature maps are kept once, in a `FrameRing`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serl_rl.data import Chunk, TransitionSpec
from serl_rl.frames import FrameRing, take

Batch = dict[str, Any]
"""observation and next_observation: name -> (*B, *drawn_shape) as the specification's `drawn_shape` says; action
(*B, A), reward (*B), mask (*B), as in a `Chunk`."""


def empty_batch(
    spec: TransitionSpec, shape: tuple[int, ...], empty: Callable[[tuple[int, ...], str], NDArray[Any]] = np.empty
) -> Batch:
    """Arrays for transitions with leading axes `shape`, to be filled by `ReplayBuffer.sample_into`.

    Args:
        spec: of the transitions.
        shape: leading axes.
        empty: makes an array of a shape and dtype.
    """

    def observation() -> dict[str, NDArray[Any]]:
        entries = spec.observation.items()
        return {name: empty((*shape, *spec.drawn_shape(name)), entry.dtype) for name, entry in entries}

    return {
        "observation": observation(),
        "next_observation": observation(),
        "action": empty((*shape, spec.action_dim), "float32"),
        "reward": empty(shape, "float32"),
        "mask": empty(shape, "float32"),
    }


def map_batch(function: Callable[[NDArray[Any]], NDArray[Any]], batch: Batch) -> Batch:
    """Apply a function to every array of a batch."""
    return {
        key: {name: function(rows) for name, rows in value.items()} if isinstance(value, dict) else function(value)
        for key, value in batch.items()
    }


class ReplayBuffer:
    """The newest `capacity` transitions. Safe to call from several threads.

    Args:
        spec: shapes of the transitions.
        capacity: number of transitions. With pictures or features, pieces of episodes shorter than 32 transitions make
            the buffer hold fewer, see `FrameRing`.
    """

    def __init__(self, spec: TransitionSpec, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"capacity: expected at least 1 transition, found {capacity}")
        self.spec = spec
        self.capacity = capacity
        self._mutex = threading.Lock()
        self._inserted = 0
        self._size = 0
        self._scalars = {
            "action": np.empty((capacity, spec.action_dim), np.float32),
            "reward": np.empty(capacity, np.float32),
            "mask": np.empty(capacity, np.float32),
        }
        self._vectors = {
            side: {name: np.empty((capacity, *spec.observation[name].shape), np.float32) for name in spec.vector_names}
            for side in ("observation", "next_observation")
        }
        self._frames = FrameRing(spec, capacity) if spec.frame_names else None
        self._open: tuple[str, bool, int, int] | None = None

    def __len__(self) -> int:
        return self._size

    @property
    def inserted(self) -> int:
        """Transitions ever inserted, those beyond the capacity of their own chunk not counted."""
        return self._inserted

    def insert(self, chunk: Chunk) -> None:
        """Add the transitions of a chunk, which must fit the spec, and forget the oldest ones beyond the capacity."""
        chunk = chunk.skip(max(len(chunk) - self.capacity, 0))
        with self._mutex:
            self._insert(chunk)

    def _insert(self, chunk: Chunk) -> None:
        n = len(chunk)
        slots = np.arange(self._inserted, self._inserted + n) % self.capacity
        for name, vectors in self._vectors["observation"].items():
            vectors[slots] = chunk.observation[name][:-1]
            self._vectors["next_observation"][name][slots] = chunk.observation[name][1:]
        for name, column in self._scalars.items():
            column[slots] = getattr(chunk, name)
        self._inserted += n
        self._size = min(self._size + n, self.capacity)
        if self._frames is not None:
            episode = (chunk.actor_id, chunk.demonstration, chunk.episode)
            self._frames.append(chunk, slots, continues=self._open == (*episode, chunk.first_step))
            self._open = (*episode, chunk.first_step + n)
            while not self._frames.holds((self._inserted - self._size) % self.capacity):
                self._size -= 1

    def sample(self, rng: np.random.Generator, size: int) -> Batch:
        """Draw `size` transitions uniformly, with replacement."""
        batch = empty_batch(self.spec, (size,))
        self.sample_into(rng, batch)
        return batch

    def sample_into(self, rng: np.random.Generator, batch: Batch) -> None:
        """Draw uniformly, with replacement, into all rows of a batch: one of `empty_batch`, or a view of one.

        Of features, a view is drawn for each sample, camera and side (observation, next observation).
        """
        with self._mutex:
            if self._size == 0:
                raise ValueError("replay buffer: expected at least one transition to sample from, found none")
            oldest = self._inserted - self._size
            slots = rng.integers(oldest, self._inserted, size=batch["reward"].shape) % self.capacity
            finish = self._gather(slots, batch, rng)
        finish()

    def transitions(self) -> Batch:
        """All transitions, oldest first (copied); of features, the views that are not shifted."""
        with self._mutex:
            batch = empty_batch(self.spec, (self._size,))
            slots = np.arange(self._inserted - self._size, self._inserted) % self.capacity
            finish = self._gather(slots, batch, None)
        finish()
        return batch

    def _gather(self, slots: NDArray[np.int64], batch: Batch, rng: np.random.Generator | None) -> Callable[[], None]:
        """Fill a batch; returns what may be done without the mutex."""
        for name, column in self._scalars.items():
            take(column, slots, batch[name])
        for side, table in self._vectors.items():
            for name, vectors in table.items():
                take(vectors, slots, batch[side][name])
        if self._frames is None:
            return lambda: None
        return self._frames.gather(slots, slots, batch, rng)
