# SPDX-License-Identifier: Apache-2.0
"""A replay buffer that holds the newest transitions, stores every frame once and samples uniformly.

Flat float vectors are kept twice, as observation and as next observation, because a contiguous gather is what makes
sampling fast. Pictures and feature maps are kept once, in a `FrameRing`. Of a buffer with `Cold`, the older rows are
read from files, and draws are the same.
"""

from __future__ import annotations

import logging
import math
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from serl_rl.capacity import transition_bytes
from serl_rl.replay.columns import Columns, MemoryColumns, TieredColumns, Wanted
from serl_rl.replay.frames import FrameRing, FrameStore, RawFrames
from serl_rl.replay.tiered import Cold, TieredFrames, TieredRows, index_bytes
from serl_rl.spec import ArraySpec
from serl_rl.storage.chunk import Chunk, TransitionSpec

Batch = dict[str, Any]
"""Transitions with leading axes B.

observation, next_observation: name -> (*B, *drawn_shape), by the specification's `drawn_shape`
action (*B, A), reward (*B), mask (*B): as in a `Chunk`
discount (*B), valid (*B, H), visited, name -> (*B, H, *drawn_shape): as `Sampling` asks for
"""


_log = logging.getLogger(__name__)


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


def _expect_memory(spec: TransitionSpec, capacity: int, storage: str, cold: Cold | None) -> None:
    """Raise ValueError unless so many transitions fit into the machine's memory."""
    if cold is not None:
        needed, memory = cold.hot * transition_bytes(spec) + capacity * index_bytes(spec), machine_memory()
        if needed > memory:
            raise ValueError(
                f"replay_memory: expected at most the {memory / 1e9:.1f}GB of this machine, found {needed / 1e9:.1f}GB"
            )
        return
    each = 0
    for entry in spec.observation.values():
        if entry.kind != "image" or storage == "raw":
            each += entry.elements * entry.wire_dtype.itemsize * (2 if entry.kind == "vector" else 1)
    memory = machine_memory()
    if capacity * each > memory:
        raise ValueError(
            f"capacity: expected at most {memory // each} transitions of {each / 1024:.0f} kB, which fill the memory "
            f"of this machine, found {capacity}; lower replay_capacity or demonstration_capacity, keep a part on the "
            "disk (replay_memory: 2GB), or pictures as JPEG (vision.storage: jpeg)"
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
        cold: where the older transitions are, if not in memory; pictures are raw then.

    Raises:
        ValueError: the capacity is not positive, or more than the machine has memory for, or JPEG was to be cold.
        DataError: JPEG cannot hold pictures with this number of channels.
    """

    def __init__(
        self,
        spec: TransitionSpec,
        capacity: int,
        *,
        storage: Literal["raw", "jpeg"] = "raw",
        jpeg_quality: int = 95,
        cold: Cold | None = None,
    ) -> None:
        if capacity < 1:
            raise ValueError(f"capacity: expected at least 1 transition, found {capacity}")

        if cold is not None and storage != "raw":
            raise ValueError(f"storage: expected raw for what is read from files, found {storage}")
        _expect_memory(spec, capacity, storage, cold)
        self._cold = cold
        self._tiered: list[TieredRows] = []

        def store(entry: ArraySpec, rows: int) -> FrameStore:
            if cold is not None:
                views = entry.shape[0] if entry.kind == "features" else None
                return TieredFrames(self._table(f"frames{len(self._tiered)}", entry, rows, views), entry)
            if storage == "jpeg" and entry.kind == "image":
                from serl_rl.replay.jpeg_frames import JpegFrames  # OpenCV is loaded only where it is needed

                return JpegFrames(entry, rows, jpeg_quality)
            return RawFrames(entry, rows)

        self.spec = spec
        self.capacity = capacity
        self._mutex = threading.Lock()
        self._inserted = 0
        self._size = 0
        self._columns: Columns
        if cold is None:
            self._columns = MemoryColumns(spec, capacity)
        else:
            row = ArraySpec((TieredColumns.row_size(spec),), "float32")
            self._columns = TieredColumns(spec, capacity, self._table("rows", row, capacity))
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
        index = self._following.nbytes + self._origin.nbytes + self._discarded.nbytes
        return index + self._columns.nbytes + (0 if self._frames is None else self._frames.nbytes)

    @property
    def folder(self) -> Path | None:
        """Where its files are; None: nowhere, it is in memory."""
        return None if self._cold is None else self._cold.folder

    @property
    def cold(self) -> int:
        """Transitions whose action, reward and vectors are read from files."""
        return min(self._tiered[0].cold, self._size) if self._tiered else 0

    def release(self) -> None:
        """Give back the memory of what was read from files; the system does so by itself where it needs some."""
        with self._mutex:
            for table in self._tiered:
                table.release()

    @property
    def inserted(self) -> int:
        """Transitions ever inserted, those beyond the capacity of their own chunk not counted."""
        return self._inserted

    def expect_room(self, count: int) -> None:
        """Raise SegmentError if so many transitions cannot be added because the disk is full; only where it is used."""
        if self._tiered:
            with self._mutex:
                for table in self._tiered:
                    table.expect_room(2 * count + 1)  # a transition may need two frames

    def insert(self, chunk: Chunk) -> None:
        """Add the transitions of a chunk, which must fit the spec, and forget the oldest ones beyond the capacity.

        Raises SegmentLost where the disk has no room for them, and `expect_room` was not asked.
        """
        chunk = chunk.skip(max(len(chunk) - self.capacity, 0))
        with self._mutex:
            self._insert(chunk)

    def _insert(self, chunk: Chunk) -> None:
        n, before = len(chunk), self._inserted
        slots = np.arange(before, before + n) % self.capacity
        self._columns.append(slots, chunk)
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

    def _table(self, name: str, row: ArraySpec, capacity: int, views: int | None = None) -> TieredRows:
        assert self._cold is not None
        table = TieredRows(self._cold, name, row.shape, row.wire_dtype.str, capacity, self._make_anew, views)
        self._tiered.append(table)
        return table

    def _make_anew(self) -> None:
        """Write the files that are missing or were changed, from what the journal says."""
        assert self._cold is not None
        missing = [(table, number) for table in self._tiered for number in table.missing()]
        _log.warning("%s: %d files are missing or were changed; made anew", self._cold.folder, len(missing))
        only = frozenset((table.name, number) for table, number in missing)
        again = replace(self._cold, hot=2 * self._cold.block, only=only)
        self._cold.refill(ReplayBuffer(self.spec, self.capacity, cold=again))
        for table, number in missing:
            table.map_again(number)

    def _gather(
        self, slots: NDArray[np.int64], batch: Batch, sampling: Sampling, rng: np.random.Generator | None
    ) -> Callable[[], None]:
        """Fill a batch; returns what may be done without the mutex."""
        of = {"first": slots, "last": slots, "acted": slots, "rewarded": slots}
        rewards, factors = batch["reward"], None
        behind = {"next_observation": "last"}  # whose next observations are drawn, by the name in the batch
        if sampling != SINGLE:
            span, valid = self._span(slots, sampling)
            n_step = sampling.n_step or 1
            of["last"], of["rewarded"] = span[..., n_step - 1], span[..., :n_step]
            rewards = np.empty(of["rewarded"].shape, np.float32)
            factors = valid[..., :n_step]
            if sampling.n_step is not None:
                batch["discount"][...] = np.power(sampling.discount, factors.sum(axis=-1))
            if sampling.action_chunk is not None:
                of["acted"] = span[..., : sampling.action_chunk]
                batch["valid"][...] = valid[..., : sampling.action_chunk]
            if sampling.visited:
                behind["visited"] = "acted"
        wanted = [
            Wanted(("action", ""), "acted", batch["action"]),
            Wanted(("reward", ""), "rewarded", rewards),
            Wanted(("mask", ""), "last", batch["mask"]),
        ]
        for name in self.spec.vector_names:
            wanted.append(Wanted(("observation", name), "first", batch["observation"][name]))
            wanted += [Wanted(("next_observation", name), which, batch[side][name]) for side, which in behind.items()]
        remaining = [self._columns.gather(of, wanted)]
        if self._frames is not None:
            last = {side: of[which] for side, which in behind.items()}
            remaining.append(self._frames.gather(slots, last, batch, rng))

        def finish() -> None:
            for rest in remaining:
                rest()
            if factors is not None:
                batch["reward"][...] = (rewards * factors) @ np.power(sampling.discount, np.arange(factors.shape[-1]))

        return finish

    def _span(self, slots: NDArray[np.int64], sampling: Sampling) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Slots (*B, span) from each one on, the last of an episode repeated; and (*B, span), 0 where it is."""
        span = np.repeat(slots[..., None], sampling.span, axis=-1)
        valid = np.ones(span.shape, np.float32)
        for step in range(1, sampling.span):
            following = self._following[span[..., step - 1]]
            ended = (following == _NONE) | (valid[..., step - 1] == 0.0)
            span[..., step] = np.where(ended, span[..., step - 1], following)
            valid[..., step] = ~ended
        return span, valid
