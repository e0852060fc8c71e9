# SPDX-License-Identifier: Apache-2.0
"""A replay buffer that holds the newest transitions, stores every frame once and samples uniformly.

Flat float vectors are kept twice, as observation and as next observation, because a contiguous gather is what makes
sampling fast. Images and feature maps are kept once: a ring of frames, where a transition points at the row of its
observation and the next observation is the row after it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serl_rl.data import Chunk, TransitionSpec

Batch = dict[str, Any]
"""observation and next_observation: name -> (*B, *shape); action (*B, A), reward (*B), mask (*B), as in a `Chunk`."""


def empty_batch(spec: TransitionSpec, shape: tuple[int, ...]) -> Batch:
    """Arrays for transitions with leading axes `shape`, to be filled by `ReplayBuffer.sample_into`."""
    return {
        "observation": _empty_rows(spec, tuple(spec.observation), shape),
        "next_observation": _empty_rows(spec, tuple(spec.observation), shape),
        "action": np.empty((*shape, spec.action_dim), np.float32),
        "reward": np.empty(shape, np.float32),
        "mask": np.empty(shape, np.float32),
    }


def map_batch(function: Callable[[NDArray[Any]], NDArray[Any]], batch: Batch) -> Batch:
    """Apply a function to every array of a batch."""
    return {
        key: {name: function(rows) for name, rows in value.items()} if isinstance(value, dict) else function(value)
        for key, value in batch.items()
    }


def _empty_rows(spec: TransitionSpec, names: tuple[str, ...], shape: tuple[int, ...]) -> dict[str, NDArray[Any]]:
    entries = spec.observation
    return {name: np.empty((*shape, *entries[name].shape), entries[name].dtype) for name in names}


class ReplayBuffer:
    """The newest `capacity` transitions. Safe to call from several threads.

    Args:
        spec: shapes of the transitions.
        capacity: number of transitions. With images, the ring of frames has an eighth more rows than that; pieces of
            episodes shorter than 8 transitions then make the buffer hold fewer.
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
            "observation": _empty_rows(spec, spec.vector_names, (capacity,)),
            "next_observation": _empty_rows(spec, spec.vector_names, (capacity,)),
        }
        self._frame_capacity = capacity + capacity // 8 + 2
        self._frames = _empty_rows(spec, spec.frame_names, (self._frame_capacity,))
        self._frame_row = np.empty(capacity, np.int64)
        self._frames_written = 0
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
        if self._frames:
            self._insert_frames(chunk, slots)
            self._forget_overwritten_frames()

    def _insert_frames(self, chunk: Chunk, slots: NDArray[np.int64]) -> None:
        shared = int(self._continues(chunk))
        n = len(chunk)
        first = self._frames_written - shared
        rows = np.arange(first + shared, first + n + 1) % self._frame_capacity
        for name, frames in self._frames.items():
            frames[rows] = chunk.observation[name][shared:]
        self._frame_row[slots] = np.arange(first, first + n)
        self._frames_written = first + n + 1
        self._open = (chunk.actor_id, chunk.demonstration, chunk.episode, chunk.first_step + n)

    def _continues(self, chunk: Chunk) -> bool:
        """Whether row 0 of the chunk is already the newest frame of the ring."""
        if self._open != (chunk.actor_id, chunk.demonstration, chunk.episode, chunk.first_step):
            return False
        newest = (self._frames_written - 1) % self._frame_capacity
        return all(np.array_equal(frames[newest], chunk.observation[name][0]) for name, frames in self._frames.items())

    def _forget_overwritten_frames(self) -> None:
        oldest_frame = self._frames_written - self._frame_capacity
        while self._frame_row[(self._inserted - self._size) % self.capacity] < oldest_frame:
            self._size -= 1

    def sample(self, rng: np.random.Generator, size: int) -> Batch:
        """Draw `size` transitions uniformly, with replacement."""
        batch = empty_batch(self.spec, (size,))
        self.sample_into(rng, batch)
        return batch

    def sample_into(self, rng: np.random.Generator, batch: Batch) -> None:
        """Draw uniformly, with replacement, into all rows of a batch: one of `empty_batch`, or a view of one."""
        with self._mutex:
            if self._size == 0:
                raise ValueError("replay buffer: expected at least one transition to sample from, found none")
            oldest = self._inserted - self._size
            slots = rng.integers(oldest, self._inserted, size=batch["reward"].shape) % self.capacity
            self._gather(slots, batch)

    def transitions(self) -> Batch:
        """All transitions, oldest first (copied)."""
        with self._mutex:
            batch = empty_batch(self.spec, (self._size,))
            self._gather(np.arange(self._inserted - self._size, self._inserted) % self.capacity, batch)
            return batch

    def _gather(self, slots: NDArray[np.int64], batch: Batch) -> None:
        # mode="clip" spares np.take the buffered copy that mode="raise" makes with out=.
        for name, column in self._scalars.items():
            np.take(column, slots, axis=0, out=batch[name], mode="clip")
        for side, table in self._vectors.items():
            for name, vectors in table.items():
                np.take(vectors, slots, axis=0, out=batch[side][name], mode="clip")
        for name, frames in self._frames.items():
            rows = self._frame_row[slots]
            np.take(frames, rows % self._frame_capacity, axis=0, out=batch["observation"][name], mode="clip")
            np.take(frames, (rows + 1) % self._frame_capacity, axis=0, out=batch["next_observation"][name], mode="clip")
