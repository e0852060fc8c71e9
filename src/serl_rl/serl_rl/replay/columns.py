# SPDX-License-Identifier: Apache-2.0
"""What a transition is beside its frames: action, reward, mask and vectors, by the slot of the transition."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from serl_rl.replay.frames import take
from serl_rl.replay.tiered import TieredRows
from serl_rl.spec import TransitionSpec
from serl_rl.storage.chunk import Chunk

Key = tuple[str, str]
"""A column: action, reward or mask and "", or observation or next_observation and the name of an entry."""


class Wanted(NamedTuple):
    """Values of a column of some transitions.

    key: the column
    of: whose, a name for their slots (*B)
    out: where to write them (*B, *value)
    """

    key: Key
    of: str
    out: NDArray[Any]


class Columns(Protocol):
    """The columns of all transitions of a buffer."""

    @property
    def nbytes(self) -> int:
        """Bytes of memory that are allocated."""

    def append(self, slots: NDArray[np.int64], chunk: Chunk) -> None:
        """Put the transitions of a chunk into slots (n,), which are the next ones."""

    def gather(self, slots: Mapping[str, NDArray[np.int64]], wanted: Sequence[Wanted]) -> Callable[[], None]:
        """Write what is wanted of transitions in slots; what is returned does what may be done while others come."""


def column_sizes(spec: TransitionSpec) -> dict[Key, tuple[int, ...]]:
    """The columns of a specification, in the order of a row, and the shape of a value of each."""
    sides = ("observation", "next_observation")
    vectors = {(side, name): spec.observation[name].shape for side in sides for name in spec.vector_names}
    return {("action", ""): (spec.action_dim,), ("reward", ""): (), ("mask", ""): (), **vectors}


def _values(chunk: Chunk, key: Key) -> NDArray[Any]:
    """Values (n, ...) of a column for each transition of a chunk."""
    side, name = key
    if not name:
        values: NDArray[Any] = getattr(chunk, side)
        return values
    return chunk.observation[name][:-1] if side == "observation" else chunk.observation[name][1:]


class MemoryColumns:
    """All of them in memory, each contiguous."""

    def __init__(self, spec: TransitionSpec, capacity: int) -> None:
        self._tables = {key: np.empty((capacity, *shape), np.float32) for key, shape in column_sizes(spec).items()}

    @property
    def nbytes(self) -> int:
        """Bytes that are allocated."""
        return sum(table.nbytes for table in self._tables.values())

    def append(self, slots: NDArray[np.int64], chunk: Chunk) -> None:
        """Put the transitions of a chunk into slots (n,)."""
        for key, table in self._tables.items():
            table[slots] = _values(chunk, key)

    def gather(self, slots: Mapping[str, NDArray[np.int64]], wanted: Sequence[Wanted]) -> Callable[[], None]:
        """Write what is wanted of transitions in slots, all at once."""
        for key, of, out in wanted:
            take(self._tables[key], slots[of], out)
        return _nothing


def _nothing() -> None:
    pass


class TieredColumns:
    """The columns of a transition side by side in a row, so that an old one is read from a file in one piece.

    Args:
        spec: of the transitions.
        capacity: number of slots.
        table: of rows (`row_size` of the specification,) float32.
    """

    def __init__(self, spec: TransitionSpec, capacity: int, table: TieredRows) -> None:
        self.table = table
        self._capacity = capacity
        self._places: dict[Key, slice] = {}
        end = 0
        for key, shape in column_sizes(spec).items():
            self._places[key] = slice(end, end := end + (shape[0] if shape else 1))
        self._size = end

    @staticmethod
    def row_size(spec: TransitionSpec) -> int:
        """Numbers in a row."""
        return sum(shape[0] if shape else 1 for shape in column_sizes(spec).values())

    @property
    def nbytes(self) -> int:
        """Bytes of memory that are allocated."""
        return self.table.nbytes

    def append(self, slots: NDArray[np.int64], chunk: Chunk) -> None:
        """Put the transitions of a chunk into slots (n,), which are the next ones.

        Raises SegmentLost where they fit neither into memory nor onto the disk.
        """
        rows = np.empty((len(slots), self._size), np.float32)
        for key, place in self._places.items():
            rows[:, place] = _values(chunk, key).reshape(len(slots), -1)
        self.table.append(rows)

    def gather(self, slots: Mapping[str, NDArray[np.int64]], wanted: Sequence[Wanted]) -> Callable[[], None]:
        """Read rows of transitions that are in memory; what is returned reads the others, and divides all of them."""
        read: dict[int, NDArray[np.float32]] = {}  # the same slots, though under two names, are read once
        requests = []
        for each in slots.values():
            if id(each) not in read:
                newest = self.table.written - 1
                numbers = newest - (newest - each) % self._capacity
                read[id(each)] = np.empty((*each.shape, self._size), np.float32)
                requests.append((numbers, read[id(each)]))
        rest = self.table.gather(requests)

        def finish() -> None:
            rest()
            for key, of, out in wanted:
                out[...] = read[id(slots[of])][..., self._places[key]].reshape(out.shape)

        return finish
