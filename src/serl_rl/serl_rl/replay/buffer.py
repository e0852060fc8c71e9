# SPDX-License-Identifier: Apache-2.0
"""A replay buffer that holds the newest transitions, stores every frame once and samples uniformly.

Flat float vectors are kept twice, as observation and as next observation, because a contiguous gather is what makes
sampling fast. Pictures and feature maps are kept once, in a `FrameRing`.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from serl_rl.replay.frames import FrameRing, FrameStore, RawFrames, take
from serl_rl.spec import ArraySpec
from serl_rl.storage.chunk import Chunk, TransitionSpec

Batch = dict[str, Any]
"""Transitions with leading axes B.

observation, next_observation: name -> (*B, *drawn_shape), by the specification's `drawn_shape`
action (*B, A), reward (*B), mask (*B): as in a `Chunk`
discount (*B), valid (*B, H), visited, name -> (*B, H, *drawn_shape): as `Sampling` asks for
"""


@dataclass(frozen=True)
class Sampling:
    """What is drawn instead of single transitions.

    n_step: each sample spans m <= n_step transitions, fewer only where the episode, or what is stored of it, ends:
        reward is the discounted sum of their rewards, mask and next observation are of the last of them, and the batch
        has `discount`, the factor discount**m. The target is reward + discount * mask * value(next_observation)
    discount: gamma of one environment step, needed for n_step
    action_chunk: number H of actions of each sample. Then action is (*B, H, A), what was executed from the transition
        on; the batch has `valid` (*B, H) float32, 0 behind the end of the episode, where the last action is repeated
    visited: whether the batch has `visited`, the observation behind each of these actions, the last one repeated, too
    """

    n_step: int | None = None
    discount: float = 1.0
    action_chunk: int | None = None
    visited: bool = False

    def __post_init__(self) -> None:
        if self.visited and self.action_chunk is None:
            raise ValueError("visited: expected an action_chunk whose observations are meant, found None")
        for name in ("n_step", "action_chunk"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}: expected at least 1, or None, found {value}")
        if not 0.0 <= self.discount <= 1.0:
            raise ValueError(f"discount: expected 0 to 1, found {self.discount}")

    @property
    def span(self) -> int:
        """Consecutive transitions that a sample needs."""
        return max(self.n_step or 1, self.action_chunk or 1)


SINGLE = Sampling()


def empty_batch(
    spec: TransitionSpec,
    shape: tuple[int, ...],
    sampling: Sampling = SINGLE,
    empty: Callable[[tuple[int, ...], str], NDArray[Any]] = np.empty,
) -> Batch:
    """Arrays (*shape, ...) for transitions, to be filled by `ReplayBuffer.sample_into`.

    Args:
        spec: of the transitions.
        shape: leading axes.
        sampling: what is drawn.
        empty: makes an array of a shape and dtype.
    """

    def observation(*steps: int) -> dict[str, NDArray[Any]]:
        entries = spec.observation.items()
        return {name: empty((*shape, *steps, *spec.drawn_shape(name)), entry.dtype) for name, entry in entries}

    steps = () if sampling.action_chunk is None else (sampling.action_chunk,)
    batch: Batch = {
        "observation": observation(),
        "next_observation": observation(),
        "action": empty((*shape, *steps, spec.action_dim), "float32"),
        "reward": empty(shape, "float32"),
        "mask": empty(shape, "float32"),
    }
    if sampling.n_step is not None:
        batch["discount"] = empty(shape, "float32")
    if sampling.action_chunk is not None:
        batch["valid"] = empty((*shape, *steps), "float32")
    if sampling.visited:
        batch["visited"] = observation(*steps)
    return batch


def map_batch(function: Callable[[NDArray[Any]], NDArray[Any]], batch: Batch) -> Batch:
    """Apply a function to every array (*B, ...) of a batch."""
    return {
        key: {name: function(rows) for name, rows in value.items()} if isinstance(value, dict) else function(value)
        for key, value in batch.items()
    }


def machine_memory() -> int:
    """Memory of this machine [bytes]."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def batch_bytes(spec: TransitionSpec, sampling: Sampling = SINGLE) -> int:
    """Bytes of one sampled transition: its observations, which are nearly all of it."""
    entries = spec.observation.items()
    count = 2 + (sampling.span if sampling.visited else 0)
    return count * sum(math.prod(spec.drawn_shape(name)) * entry.wire_dtype.itemsize for name, entry in entries)


def _expect_memory(spec: TransitionSpec, capacity: int, storage: str) -> None:
    """Raise ValueError unless so many transitions fit into the machine's memory."""
    each = 0
    for entry in spec.observation.values():
        if entry.kind != "image" or storage == "raw":
            each += entry.elements * entry.wire_dtype.itemsize * (2 if entry.kind == "vector" else 1)
    memory = machine_memory()
    if capacity * each > memory:
        raise ValueError(
            f"capacity: expected at most {memory // each} transitions of {each / 1024:.0f} kB, which fill the memory "
            f"of this machine, found {capacity}; lower replay_capacity or demonstration_capacity, or keep pictures as "
            "JPEG (vision.storage: jpeg)"
        )


class _Open(NamedTuple):
    """An episode that may go on."""

    episode: int
    next_step: int
    last: int  # number of its newest transition among the inserted ones


_NONE = -1


class NothingToDraw(ValueError):
    """There is no transition to sample: none was stored yet, or all were discarded."""


class ReplayBuffer:
    """The newest `capacity` transitions. Safe to call from several threads.

    Args:
        spec: shapes of the transitions.
        capacity: number of transitions. With pictures or features, pieces of episodes shorter than 32 transitions make
            the buffer hold fewer, see `FrameRing`.
        storage: how pictures are kept. JPEG takes about a fifteenth of the memory, and time whenever they are drawn.
        jpeg_quality: 1 to 100.

    Raises:
        ValueError: the capacity is not positive, or more than the machine has memory for.
        DataError: JPEG cannot hold pictures with this number of channels.
    """

    def __init__(
        self,
        spec: TransitionSpec,
        capacity: int,
        *,
        storage: Literal["raw", "jpeg"] = "raw",
        jpeg_quality: int = 95,
    ) -> None:
        if capacity < 1:
            raise ValueError(f"capacity: expected at least 1 transition, found {capacity}")

        _expect_memory(spec, capacity, storage)

        def store(entry: ArraySpec, rows: int) -> FrameStore:
            if storage == "jpeg" and entry.kind == "image":
                from serl_rl.replay.jpeg_frames import JpegFrames  # OpenCV is loaded only where it is needed

                return JpegFrames(entry, rows, jpeg_quality)
            return RawFrames(entry, rows)

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
        self._frames = FrameRing(spec, capacity, store) if spec.frame_names else None
        self._following = np.empty(capacity, np.int64)  # slot of the next transition of the episode, or _NONE
        self._origin = np.empty((capacity, 3), np.int64)  # number of the actor, episode, step
        self._actors: dict[str, int] = {}
        self._discarded = np.zeros(capacity, np.bool_)
        self._voids = 0  # discarded ones among the newest `_size`
        self._drawable: NDArray[np.int64] | None = None  # slots of the others, where there are discarded ones
        self._open: dict[tuple[str, bool], _Open] = {}

    def __len__(self) -> int:
        return self._size - self._voids

    @property
    def nbytes(self) -> int:
        """Bytes that are allocated; the system gives those of arrays only when they are first written."""
        tables: list[NDArray[Any]] = [self._following, self._origin, self._discarded, *self._scalars.values()]
        for vectors in self._vectors.values():
            tables += vectors.values()
        return sum(table.nbytes for table in tables) + (0 if self._frames is None else self._frames.nbytes)

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
        n, before = len(chunk), self._inserted
        slots = np.arange(before, before + n) % self.capacity
        for name, vectors in self._vectors["observation"].items():
            vectors[slots] = chunk.observation[name][:-1]
            self._vectors["next_observation"][name][slots] = chunk.observation[name][1:]
        for name, column in self._scalars.items():
            column[slots] = getattr(chunk, name)
        self._origin[slots, 0] = self._actors.setdefault(chunk.actor_id, len(self._actors))
        self._origin[slots, 1] = chunk.episode
        self._origin[slots, 2] = chunk.first_step + np.arange(n)
        self._forget(slots)
        self._inserted += n
        self._size = min(self._size + n, self.capacity)
        previous = self._link(chunk, before)
        if self._frames is not None:
            self._frames.append(chunk, slots, continues=previous == before - 1)
            while not self._frames.holds(oldest := (self._inserted - self._size) % self.capacity):
                self._forget(np.array([oldest]))
                self._size -= 1

    def _forget(self, slots: NDArray[np.int64]) -> None:
        """Slots leave the newest ones, or get other transitions."""
        self._drawable = None
        if self._voids:
            self._voids -= int(self._discarded[slots].sum())
            self._discarded[slots] = False

    def discard(self, actor_id: str, episode: int, first_step: int) -> int:
        """Never draw again what an actor did in an episode from a step on; the transition before ends in a truncation.

        Returns:
            the number of transitions that were discarded.
        """
        with self._mutex:
            slots = self._slots()
            actor, number, step = self._origin[slots].T
            ours = (actor == self._actors.get(actor_id, _NONE)) & (number == episode)
            found = slots[ours & (step >= first_step)]
            self._discarded[found] = True
            self._voids += len(found)
            self._following[slots[ours & (step < first_step)][-1:]] = _NONE
            self._drawable = None
            for key in ((actor_id, False), (actor_id, True)):
                open_episode = self._open.get(key)
                if open_episode is not None and open_episode.episode == episode:
                    del self._open[key]
            return len(found)

    def _link(self, chunk: Chunk, first: int) -> int | None:
        """Note what follows what, for a chunk that is number `first` and on of the inserted transitions.

        Returns the number of the transition before the chunk in its episode, None if that is not the last of its actor.
        """
        numbers = np.arange(first, first + len(chunk))
        actor = (chunk.actor_id, chunk.demonstration)
        open_episode = self._open.pop(actor, None)
        previous = None
        if open_episode is not None and open_episode[:2] == (chunk.episode, chunk.first_step):
            previous = open_episode.last
            if previous >= first - self.capacity:
                self._following[previous % self.capacity] = first % self.capacity
        self._following[numbers % self.capacity] = (numbers + 1) % self.capacity
        self._following[numbers[-1] % self.capacity] = _NONE
        if not chunk.last:
            self._open[actor] = _Open(chunk.episode, chunk.first_step + len(chunk), int(numbers[-1]))
        return previous

    def sample(self, rng: np.random.Generator, size: int, sampling: Sampling = SINGLE) -> Batch:
        """Draw `size` transitions uniformly, with replacement."""
        batch = empty_batch(self.spec, (size,), sampling)
        self.sample_into(rng, batch, sampling)
        return batch

    def sample_into(self, rng: np.random.Generator, batch: Batch, sampling: Sampling = SINGLE) -> None:
        """Draw uniformly, with replacement, into all rows of a batch: one of `empty_batch`, or a view of one.

        Of features, a view is drawn for each sample, camera and side (observation, next observation). Raises
        NothingToDraw while the buffer is empty.
        """
        with self._mutex:
            if len(self) == 0:
                raise NothingToDraw("replay buffer: expected at least one transition to sample from, found none")
            slots = self._draw(rng, batch["reward"].shape)
            finish = self._gather(slots, batch, sampling, rng)
        finish()

    def transitions(self, sampling: Sampling = SINGLE) -> Batch:
        """All transitions, oldest first (copied); of features, the views that are not shifted."""
        with self._mutex:
            batch = empty_batch(self.spec, (len(self),), sampling)
            finish = self._gather(self._slots(), batch, sampling, None)
        finish()
        return batch

    def _slots(self) -> NDArray[np.int64]:
        """Slots of all transitions that were not discarded, oldest first."""
        slots = np.arange(self._inserted - self._size, self._inserted) % self.capacity
        return slots[~self._discarded[slots]] if self._voids else slots

    def _draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.int64]:
        """Slots of this shape, uniformly, with replacement.

        Those that hit something discarded are drawn again, which costs nothing that grows with the buffer; where that
        would be more than every other one, they are drawn from a list of the rest.
        """
        if 2 * self._voids > self._size:
            if self._drawable is None:
                self._drawable = self._slots()
            return self._drawable[rng.integers(len(self._drawable), size=shape)]
        oldest = self._inserted - self._size
        slots = rng.integers(oldest, self._inserted, size=shape) % self.capacity
        if not self._voids:
            return slots
        while void := int((again := self._discarded[slots]).sum()):
            slots[again] = rng.integers(oldest, self._inserted, void) % self.capacity
        return slots

    def _gather(
        self, slots: NDArray[np.int64], batch: Batch, sampling: Sampling, rng: np.random.Generator | None
    ) -> Callable[[], None]:
        """Fill a batch; returns what may be done without the mutex."""
        last = slots
        behind: dict[str, NDArray[np.int64]] = {}  # whose next observations are drawn, by the name in the batch
        if sampling == SINGLE:
            take(self._scalars["action"], slots, batch["action"])
            take(self._scalars["reward"], slots, batch["reward"])
        else:
            last, span = self._gather_spans(slots, batch, sampling)
            if sampling.visited:
                behind["visited"] = span[..., : sampling.action_chunk]
        take(self._scalars["mask"], last, batch["mask"])
        behind = {"next_observation": last} | behind
        for name, vectors in self._vectors["observation"].items():
            take(vectors, slots, batch["observation"][name])
        for name, vectors in self._vectors["next_observation"].items():
            for side, rows in behind.items():
                take(vectors, rows, batch[side][name])
        if self._frames is None:
            return lambda: None
        return self._frames.gather(slots, behind, batch, rng)

    def _gather_spans(
        self, slots: NDArray[np.int64], batch: Batch, sampling: Sampling
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Fill in what comes from several transitions; returns the slots (*B) where samples end, and all (*B, span)."""
        span = np.repeat(slots[..., None], sampling.span, axis=-1)
        valid = np.ones(span.shape, np.float32)
        for step in range(1, sampling.span):
            following = self._following[span[..., step - 1]]
            ended = (following == _NONE) | (valid[..., step - 1] == 0.0)
            span[..., step] = np.where(ended, span[..., step - 1], following)
            valid[..., step] = ~ended
        if sampling.action_chunk is None:
            take(self._scalars["action"], slots, batch["action"])
        else:
            take(self._scalars["action"], span[..., : sampling.action_chunk], batch["action"])
            batch["valid"][...] = valid[..., : sampling.action_chunk]
        n_step = sampling.n_step or 1
        rewards = self._scalars["reward"][span[..., :n_step]] * valid[..., :n_step]
        batch["reward"][...] = rewards @ np.power(sampling.discount, np.arange(n_step))
        if sampling.n_step is not None:
            batch["discount"][...] = np.power(sampling.discount, valid[..., :n_step].sum(axis=-1))
        return span[..., n_step - 1], span
