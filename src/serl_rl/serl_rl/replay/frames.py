# SPDX-License-Identifier: Apache-2.0
"""A ring that keeps each frame (picture or feature maps) once and stacks frames when they are drawn.

A transition knows the row of its observation's newest frame. The frames before it in the episode lie in the rows before
that one, and the newest frame of its next observation in the row behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from serl_rl.spec import ArraySpec, TransitionSpec
from serl_rl.storage.chunk import Chunk

Request = tuple[NDArray[np.int64], NDArray[Any]]
"""Indices (*B) of frames of a store, and where they shall be written (*B, *frame)."""


_SMALL_ROW = 1024  # [bytes] up to which one copy more costs less than a call for each contiguous part


class FrameStore(Protocol):
    """The newest frames of one observation entry, in rows that are counted from the first one ever.

    A row holds `views` frames: frame v of row r has the index r * views + v.
    """

    views: int

    @property
    def nbytes(self) -> int:
        """Bytes that are allocated."""

    def write(self, rows: NDArray[np.int64], frames: NDArray[Any]) -> None:
        """Put frames (n, *entry) into rows (n,), which are the next ones."""

    def gather(self, requests: Sequence[Request]) -> Callable[[], None]:
        """Answer requests; what is left to do may be done while rows are written, and is returned."""


class RawFrames:
    """Frames as they are."""

    def __init__(self, entry: ArraySpec, rows: int) -> None:
        self.views = entry.shape[0] if entry.kind == "features" else 1
        self._rows = np.empty((rows, *entry.shape), entry.dtype)
        self._frames = self._rows.reshape(-1, *entry.shape[1:]) if entry.kind == "features" else self._rows

    @property
    def nbytes(self) -> int:
        """Bytes that are allocated."""
        return self._rows.nbytes

    def write(self, rows: NDArray[np.int64], frames: NDArray[Any]) -> None:
        """Put frames (n, *entry) into rows (n,)."""
        self._rows[rows % len(self._rows)] = frames

    def gather(self, requests: Sequence[Request]) -> Callable[[], None]:
        """Answer requests, all at once."""
        for index, out in requests:
            take(self._frames, index % len(self._frames), out)
        return _nothing


def _nothing() -> None:
    pass


def take(table: NDArray[Any], index: NDArray[np.int64], out: NDArray[Any]) -> None:
    """`out[...] = table[index]`, in the way that is fastest for the layout of `out`.

    Args:
        table: rows (N, *entry).
        index: numbers of rows (*B,).
        out: array (*B, *entry) to write to.
    """
    if out.flags.c_contiguous or out.nbytes < _SMALL_ROW * index.size:
        # mode="clip" spares np.take the buffered copy that mode="raise" makes with a contiguous out.
        np.take(table, index, axis=0, out=out, mode="clip")
    elif index.ndim > 1:
        for part, out_part in zip(index, out, strict=True):
            take(table, part, out_part)
    else:
        out[...] = table[index]


class FrameRing:
    """The frames of the newest transitions.

    Args:
        spec: of the transitions.
        capacity: number of transitions. Every piece of an episode costs frames of its own (its last one, and its
            history where frames are stacked); there is room for these in pieces of 32 transitions and more.
        stores: makes the store of an entry for a number of rows.
    """

    def __init__(
        self, spec: TransitionSpec, capacity: int, stores: Callable[[ArraySpec, int], FrameStore] = RawFrames
    ) -> None:
        self._stack = spec.frame_stack
        self._capacity = capacity + capacity // 32 + 1 + self._stack
        self._stores = {name: stores(spec.observation[name], self._capacity) for name in spec.frame_names}
        self._row = np.empty(capacity, np.int64)  # of each transition, counted from the first frame ever
        self._history = np.empty(capacity, np.uint8)  # frames of its episode in the rows before, as far as stacked
        self._written = 0
        self._newest: Mapping[str, NDArray[Any]] = {}

    @property
    def nbytes(self) -> int:
        """Bytes that are allocated."""
        return self._row.nbytes + self._history.nbytes + sum(store.nbytes for store in self._stores.values())

    @property
    def written(self) -> int:
        """Frames ever written, for each entry."""
        return self._written

    def append(self, chunk: Chunk, slots: NDArray[np.int64], *, continues: bool) -> None:
        """Add the frames of the transitions that go into `slots` (n,).

        Args:
            chunk: the transitions.
            slots: their places among the `capacity` ones.
            continues: the chunk goes on where the last one ended, so that they have frames in common.
        """
        n, history = len(chunk), chunk.history
        shared = history + 1 if continues and self._ends_with(chunk) else 0
        count = history + n + 1 - shared
        rows = np.arange(self._written, self._written + count)
        for name, store in self._stores.items():
            store.write(rows, chunk.observation[name][shared:])
        first = self._written - shared + history
        self._row[slots] = np.arange(first, first + n)
        self._history[slots] = np.minimum(history + np.arange(n), self._stack - 1)
        self._written += count
        self._newest = {name: chunk.observation[name][-self._stack :].copy() for name in self._stores}

    def _ends_with(self, chunk: Chunk) -> bool:
        """Whether the frames up to the chunk's first observation are already the newest ones."""
        return all(
            np.array_equal(newest, chunk.observation[name][: chunk.history + 1])
            for name, newest in self._newest.items()
        )

    def holds(self, slot: int) -> bool:
        """Whether no frame of the transition in a slot has been overwritten."""
        return bool(self._row[slot] - self._history[slot] >= self._written - self._capacity)

    def gather(
        self,
        first: NDArray[np.int64],
        behind: Mapping[str, NDArray[np.int64]],
        batch: Mapping[str, Any],
        rng: np.random.Generator | None,
    ) -> Callable[[], None]:
        """Write observations of the transitions in slots `first` (*B,) into a batch, and next ones of those `behind`.

        `behind` has slots (*B,) or (*B, H) by the name under which their next observations are wanted. Of features,
        each sample, entry and side gets a view of its own, or view 0 without a generator. What is left to do may be
        done while frames are appended, and is returned.
        """
        newest = self._stack - 1
        sides = {"observation": (self._row[first], self._history[first])}
        for side, last in behind.items():
            sides[side] = (self._row[last] + 1, np.minimum(self._history[last].astype(np.int64) + 1, newest))
        remaining = []
        for name, store in self._stores.items():
            requests = []
            for side, (rows, history) in sides.items():
                view = 0 if rng is None or store.views == 1 else rng.integers(store.views, size=rows.shape)
                out = batch[side][name]
                channels = out.shape[-1] // self._stack
                for place in range(self._stack):
                    index = (rows - np.minimum(newest - place, history)) * store.views + view
                    requests.append((index, out[..., place * channels : (place + 1) * channels]))
            remaining.append(store.gather(requests))

        def finish() -> None:
            for rest in remaining:
                rest()

        return finish
