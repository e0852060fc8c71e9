# SPDX-License-Identifier: Apache-2.0
"""Tables whose newest rows are in memory and whose older ones are read from files, by number.

Rows go into the file of their block when they come, so that one that leaves the memory is in a file already. The files
are a cache: they hold what follows from the journal, and what is missing or wrong of them is made anew.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from serl_rl.capacity import transition_bytes
from serl_rl.replay.blocks import SUFFIX, UNFINISHED, Block, BlockWriter, MappedBlock
from serl_rl.replay.frames import Request, take
from serl_rl.spec import ArraySpec, TransitionSpec
from serl_rl.storage.segment import SegmentError, SegmentLost

MOST_BLOCKS = 64
"""Files of a table; each takes a file descriptor while it is mapped."""

_BLOCK_BYTES = 2**25
_INDEX_BYTES = 33  # of a transition: what follows it, where it comes from, whether it was discarded
_FRAME_INDEX_BYTES = 9

_READERS = 8
_FEW_READS = 4  # pages that a draw had to wait for, up to which threads would cost more time than they save

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cold:
    """Where transitions are that do not fit into memory.

    folder: for the files of the blocks
    hot: transitions in memory
    block: rows of a file, at most half of these
    refill: puts everything of the journal that was inserted into a buffer into another one, in the same order; it
        raises JournalError
    only: blocks to be written, by table and number, where not all are
    """

    folder: Path
    hot: int
    block: int
    refill: Callable[[Any], object]
    only: frozenset[tuple[str, int]] | None = None


def index_bytes(spec: TransitionSpec) -> int:
    """Bytes of memory that each transition takes wherever it is."""
    return _INDEX_BYTES + (_FRAME_INDEX_BYTES if spec.frame_names else 0)


def plan_cold(
    spec: TransitionSpec, capacity: int, memory: int, folder: Path, refill: Callable[[Any], object], shares: int = 1
) -> Cold | None:
    """How a buffer gets by with some memory; None where all of it fits in.

    Args:
        spec: of the transitions.
        capacity: number of transitions.
        memory: bytes.
        folder: for what does not fit in.
        refill: as `Cold` has it.
        shares: into how many equal parts the setting was divided, of which `memory` is one.

    Raises:
        ValueError: it is too little.
    """
    each, index = transition_bytes(spec), index_bytes(spec) * capacity
    if index + capacity * each <= memory:
        return None
    hot = int((memory - index) / each)
    fewest = -(-capacity // MOST_BLOCKS)
    if hot < 2 * fewest:
        least = 1.01 * shares * (index + (2 * fewest + 1) * each)  # rounded up
        parts = f" in each of {shares} equal parts, those of own experience and mounted runs" if shares > 1 else ""
        raise ValueError(
            f"replay_memory: expected at least {_megabytes(least)} for {capacity} transitions of {each / 1000:.1f} kB, "
            f"of which 1 in {MOST_BLOCKS // 2} and an index are in memory{parts}, found {_megabytes(shares * memory)}; "
            "raise it, or lower replay_capacity"
        )
    return Cold(folder, hot, min(hot // 2, max(fewest, int(_BLOCK_BYTES / each) + 1)), refill)


def _megabytes(size: float) -> str:
    """Bytes as a setting takes them, of which three digits count."""
    return f"{size / 1e6:.3g}MB" if size < 999.5e6 else f"{size / 1e6:.0f}MB"


class _Job(NamedTuple):
    """Rows that are still to be copied from a block."""

    out: NDArray[Any]
    places: tuple[NDArray[np.int64], ...]
    rows: NDArray[Any]
    wanted: NDArray[np.int64]


def _copy(job: _Job) -> None:
    job.out[job.places] = job.rows[job.wanted]


def _nothing() -> None:
    pass


@cache
def _threads() -> ThreadPoolExecutor:
    """For all tables: they wait for the disk, so that there may be more of them than cores."""
    return ThreadPoolExecutor(_READERS, thread_name_prefix="replay")


class TieredRows:
    """The newest `capacity` rows of a table, counted from the first one ever.

    Args:
        cold: where those are that are not in memory.
        name: of the table, for the names of its files.
        shape, dtype: of a row.
        capacity: how many rows can still be asked for.
        make_anew: called when files are missing or were changed: shall write them and call `map_again`.
        views: number of parts of a row (its first axis) that are asked for by themselves; part v of row r has the index
            r * views + v. None: rows are asked for whole.

    Attributes:
        name: as above.
        written: rows ever appended.
    """

    def __init__(
        self,
        cold: Cold,
        name: str,
        shape: tuple[int, ...],
        dtype: str,
        capacity: int,
        make_anew: Callable[[], None],
        views: int | None = None,
    ) -> None:
        self.name, self.written = name, 0
        self._cold, self._block, self._hot = cold, cold.block, cold.hot
        self._shape, self._dtype, self._capacity = shape, dtype, capacity
        self._make_anew, self._views = make_anew, views
        self._ring = np.empty((self._hot, *shape), dtype)
        self._parts = self._of_parts(self._ring)
        self._blocks: dict[int, MappedBlock] = {}
        self._kept = 0  # rows up to here are in files
        self._crc = 0  # of those of the newest block
        self._file: BlockWriter | None = None
        self._problem = ""
        self._waited = False
        self._first_there = 0

    @property
    def nbytes(self) -> int:
        """Bytes of memory that are allocated."""
        return self._ring.nbytes

    @property
    def cold(self) -> int:
        """Rows that are in files only."""
        return max(min(self.written, self._capacity) - self._hot, 0)

    def append(self, rows: NDArray[Any]) -> None:
        """Add rows (n, *shape). Raises SegmentLost where they fit neither into memory nor onto the disk."""
        if not self.written and self._cold.only is None:
            self._first_there = self._tidy()  # not before: only who has the journal locked may change anything
        for start in range(0, len(rows), self._block):
            piece = rows[start : start + self._block]
            if len(piece) > self._free:
                self._keep()
            if len(piece) > self._free:
                raise SegmentLost(f"{self._problem}; nothing was lost, the journal has everything: make room, go on")
            self._ring[np.arange(self.written, self.written + len(piece)) % self._hot] = piece
            self.written += len(piece)
            self._keep()
        for number in [number for number in self._blocks if (number + 1) * self._block <= self._oldest]:
            del self._blocks[number]
            self._path(number).unlink(missing_ok=True)

    def expect_room(self, count: int) -> None:
        """Raise SegmentError if so many rows cannot be added because the disk takes no more."""
        if self._problem:
            self._keep()
        if self._problem and count > self._free:
            raise SegmentError(f"{self._problem}; what comes is not stored until there is room")

    @property
    def _free(self) -> int:
        return self._hot - (self.written - self._complete * self._block)

    @property
    def _complete(self) -> int:
        """Blocks whose rows are all in files."""
        return self._kept // self._block

    @property
    def _oldest(self) -> int:
        return self.written - self._capacity

    def gather(self, requests: Sequence[Request]) -> Callable[[], None]:
        """Answer requests for rows that are in memory; what is returned reads the others, while rows are appended."""
        jobs = [job for index, out in requests for job in self._split(index, out)]
        return partial(self._finish_jobs, jobs) if jobs else _nothing

    def _finish_jobs(self, jobs: list[_Job]) -> None:
        """Copy what is in files; by several threads where the last ones had to be waited for, as a disk can do more."""
        before = getrusage(RUSAGE_SELF).ru_majflt
        if self._waited:
            for _ in _threads().map(_copy, jobs):
                pass
        else:
            for job in jobs:
                _copy(job)
        self._waited = getrusage(RUSAGE_SELF).ru_majflt - before > _FEW_READS

    def release(self) -> None:
        """Give back the memory of what was read from files."""
        for block in self._blocks.values():
            block.release()

    def missing(self) -> list[int]:
        """Numbers of blocks that are wanted and not there, or were changed."""
        wanted = range(max(self._oldest, 0) // self._block, self._complete)
        return [number for number in wanted if number not in self._blocks or not self._blocks[number].is_intact]

    def map_again(self, number: int) -> None:
        """Map the file of a block that was made anew. Raises SegmentError: there is none."""
        try:
            self._blocks[number] = MappedBlock.open(self._path(number), self._what(number))
        except OSError as error:
            raise SegmentError(f"{self._path(number)}: cannot be made anew from the journal: {error}") from error

    def _split(self, index: NDArray[np.int64], out: NDArray[Any]) -> Iterator[_Job]:
        """Copy what is in memory, and name what is not: a job for each block."""
        each = self._views or 1
        cold = index < (self.written - self._hot) * each
        if not cold.any():
            take(self._parts, index % len(self._parts), out)
            return
        if not cold.all():
            hot = np.nonzero(~cold)
            out[hot] = self._parts[index[hot] % len(self._parts)]
        places = np.nonzero(cold)
        wanted = index[places]
        order = np.argsort(wanted, kind="stable")
        wanted, places = wanted[order], tuple(axis[order] for axis in places)
        size = self._block * each
        starts = np.flatnonzero(np.diff(wanted // size, prepend=-1)).tolist()
        for start, stop in zip(starts, [*starts[1:], len(wanted)], strict=True):
            number = int(wanted[start]) // size
            rows = self._of_parts(self._mapped(number).rows)
            yield _Job(out, tuple(axis[start:stop] for axis in places), rows, wanted[start:stop] - number * size)

    def _mapped(self, number: int) -> MappedBlock:
        block = self._blocks.get(number)
        if block is None or not block.is_intact:
            self._make_anew()
        return self._blocks[number]

    def _of_parts(self, rows: NDArray[Any]) -> NDArray[Any]:
        return rows if self._views is None else rows.reshape(-1, *self._shape[1:])

    # Files

    def _keep(self) -> None:
        """Put what is in memory alone into files, as far as the disk takes it."""
        try:
            while self._kept < self.written:
                stop = min(self.written, (self._complete + 1) * self._block)
                self._crc = self._put(self._complete, self._kept, stop)
                self._kept = stop
        except OSError as error:
            self._close()
            self._kept = self._complete * self._block  # all of it is in memory still
            if not self._problem:
                self._problem = f"{self._cold.folder}: cannot be written: {error.strerror or error}"
                _log.error("%s; what is in memory is enough for %d rows", self._problem, self._free)
        else:
            if self._problem:
                _log.warning("%s: can be written again", self._cold.folder)
            self._problem = ""

    def _put(self, number: int, start: int, stop: int) -> int:
        """Write rows of a block; returns the checksum of its rows up to `stop`."""
        path, first = self._path(number), number * self._block
        if start == first:
            self._close()
            if self._is_written(number):
                self._file = self._new_file(number)
        crc = 0 if start == first else self._crc
        for rows in self._hot_rows(start, stop):
            if self._file is not None:
                self._file.write(start - first, rows)
            start += len(rows)
            crc = zlib.crc32(rows.reshape(-1).view(np.uint8).data, crc)
        if stop == first + self._block:
            self._finish(number, path, crc)
        return crc

    def _is_written(self, number: int) -> bool:
        """Whether the file of a block is written from its first row on: not where there may be one already."""
        if self._cold.only is not None:
            return (self.name, number) in self._cold.only
        return number >= self._first_there and not self._path(number).exists()

    def _finish(self, number: int, path: Path, crc: int) -> None:
        what = self._what(number)
        if self._file is None:
            if self._cold.only is not None or not path.exists():
                return  # not wanted, or so old that it was forgotten: `missing` will tell
            if not what.is_in(path, crc):
                _log.warning("%s: is damaged or of other data; made anew from the journal", path)
                self._file = self._new_file(number)
                place = 0
                for rows in self._hot_rows(what.first, what.first + what.rows):
                    self._file.write(place, rows)
                    place += len(rows)
        if self._file is not None:
            self._file.finish(crc)
            self._close()
        if self._cold.only is None:
            self._blocks[number] = MappedBlock.open(path, what)

    def _hot_rows(self, start: int, stop: int) -> Iterator[NDArray[Any]]:
        """Rows that are in memory, in one contiguous piece or two."""
        while start < stop:
            place = start % self._hot
            count = min(stop - start, self._hot - place)
            yield self._ring[place : place + count]
            start += count

    def _new_file(self, number: int) -> BlockWriter:
        for folder in (self._cold.folder.parent, self._cold.folder):  # a run that was deleted is not made again
            folder.mkdir(exist_ok=True)
        return BlockWriter(self._path(number), self._what(number))

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _what(self, number: int) -> Block:
        return Block(number * self._block, self._block, self._shape, self._dtype)

    def _path(self, number: int) -> Path:
        return self._cold.folder / f"{self.name}-{number:08d}{SUFFIX}"

    def _tidy(self) -> int:
        """Remove what a crash left half written and what has another layout; returns the oldest block that is there."""
        there = []
        for path in sorted(self._cold.folder.glob(f"{self.name}-*")):
            number = path.stem.rpartition("-")[2]
            if path.suffix == SUFFIX and number.isdecimal() and self._what(int(number)).is_said_by(path):
                there.append(int(number))
            elif path.suffix in (SUFFIX, UNFINISHED):
                path.unlink(missing_ok=True)
        return min(there, default=0)


class TieredFrames:
    """The frames of one observation entry, as a store of a `FrameRing`.

    Args:
        table: its rows.
        entry: what a row is.
    """

    def __init__(self, table: TieredRows, entry: ArraySpec) -> None:
        self.views = entry.shape[0] if entry.kind == "features" else 1
        self.table = table

    @property
    def nbytes(self) -> int:
        """Bytes of memory that are allocated."""
        return self.table.nbytes

    def write(self, rows: NDArray[np.int64], frames: NDArray[Any]) -> None:
        """Put frames (n, *entry) into rows (n,).

        Raises:
            ValueError: they are not the next ones.
            SegmentLost: they fit neither into memory nor onto the disk.
        """
        if rows[0] != self.table.written:
            raise ValueError(f"rows: expected {self.table.written} and on, found {rows[0]}")
        self.table.append(frames)

    def gather(self, requests: Sequence[Request]) -> Callable[[], None]:
        """Answer requests; what is returned reads what is in files."""
        return self.table.gather(requests)
