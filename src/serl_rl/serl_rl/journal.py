# SPDX-License-Identifier: Apache-2.0
"""Everything a learner ever acknowledged, in the order in which it did: a directory of segments.

One writer at a time, by a lock on the directory. A record is acknowledged when its bytes are with the kernel, so that
the learner may be killed at any moment; a thread synchronises them to the disk once a second against power failures.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

import msgpack

from serl_rl import segment
from serl_rl.segment import SegmentError, SegmentWriter
from serl_rl.spec import TransitionSpec

JournalError = SegmentError
"""A journal that cannot be used or written; what it held before is still there."""

_KIND = "journal"
_NAME = re.compile(r"(\d{8})\.segment")
_META_SIZE = struct.Struct("<I")

_log = logging.getLogger(__name__)


class Position(NamedTuple):
    """A place between two records of a journal. Positions compare in the order of the records."""

    segment: int
    offset: int


@dataclass(frozen=True)
class Record:
    """One acknowledged chunk: who sent it, its place in the sender's sequence, and its bytes (`encode_chunk`)."""

    actor_id: str
    session_id: str
    first_sequence: int
    count: int
    data: bytes | memoryview


class Journal:
    """The journal of one run, open for appending and locked.

    Args:
        path: directory, created when missing.
        spec: of the transitions; a journal of another specification is refused.
        sync_interval: seconds between synchronisations to the disk, or None to leave them to the system.
        segment_bytes: size at which the next segment is begun.

    Raises:
        JournalError: another process has it open, or it is damaged or foreign; nothing was changed then.
    """

    def __init__(
        self, path: Path, spec: TransitionSpec, *, sync_interval: float | None = 1.0, segment_bytes: int = 2**28
    ) -> None:
        self.path = path
        self.spec = spec
        self._segment_bytes = segment_bytes
        self._mutex = threading.Lock()
        self._closed = threading.Event()
        self._sync_error: SegmentError | None = None
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise JournalError(f"{path}: cannot be used as a directory: {error}") from error
        self._lock = _lock(path)
        try:
            count = len(_segments(path))
            if count == 0:
                segment.create(_segment_path(path, 0), _KIND, spec)
            self._index = max(count - 1, 0)
            self._writer = SegmentWriter(_segment_path(path, self._index), _KIND, spec)
        except BaseException:
            os.close(self._lock)
            raise
        self._thread: threading.Thread | None = None
        if sync_interval is not None:
            self._thread = threading.Thread(
                target=self._keep_synchronised, args=(sync_interval,), name="journal-sync", daemon=True
            )
            self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def position(self) -> Position:
        """The place behind the newest record."""
        return Position(self._index, self._writer.end)

    def append(self, record: Record) -> Position:
        """Write a record; it outlives this process from the moment this returns.

        Raises JournalError when it cannot be written (disk full); the journal is then as before and stays usable.
        """
        meta = msgpack.packb([record.actor_id, record.session_id, record.first_sequence, record.count])
        with self._mutex:
            if self._sync_error is not None:
                error, self._sync_error = self._sync_error, None
                raise error
            if self._writer.end >= self._segment_bytes:
                self._begin_segment()
            end = self._writer.append([_META_SIZE.pack(len(meta)), meta, record.data])
            return Position(self._index, end)

    def _begin_segment(self) -> None:
        path = _segment_path(self.path, self._index + 1)
        segment.create(path, _KIND, self.spec)
        writer = SegmentWriter(path, _KIND, self.spec)
        self._writer.close()
        self._writer = writer
        self._index += 1

    def replay(self) -> Iterator[tuple[Position, Record]]:
        """Yield every record with the place behind it, oldest first. Raises JournalError at damage."""
        return read_journal(self.path, self.spec)

    def _keep_synchronised(self, interval: float) -> None:
        while not self._closed.wait(interval):
            with self._mutex:
                writer = self._writer
            try:
                writer.sync()
            except SegmentError as error:
                _log.error("%s", error)
                with self._mutex:
                    self._sync_error = error

    def close(self) -> None:
        """Synchronise, close and unlock."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join()
        try:
            self._writer.close()
        finally:
            os.close(self._lock)


def read_journal(path: Path, spec: TransitionSpec) -> Iterator[tuple[Position, Record]]:
    """Read a journal without locking it: yields every complete record with the place behind it, oldest first."""
    paths = _segments(path)
    for index, segment_path in enumerate(paths):
        for end, payload in segment.scan(segment_path, _KIND, spec, torn_tail=index == len(paths) - 1):
            yield Position(index, end), _unpack(segment_path, payload)


def _unpack(path: Path, payload: bytes) -> Record:
    try:
        (size,) = _META_SIZE.unpack_from(payload)
        start = _META_SIZE.size + size
        actor_id, session_id, first_sequence, count = msgpack.unpackb(payload[_META_SIZE.size : start])
    except (struct.error, ValueError, TypeError, msgpack.exceptions.UnpackException) as error:
        raise JournalError(f"{path}: expected a record of transitions, found something else ({error})") from error
    return Record(actor_id, session_id, first_sequence, count, memoryview(payload)[start:])


def _segment_path(path: Path, index: int) -> Path:
    return path / f"{index:08d}.segment"


def _segments(path: Path) -> list[Path]:
    names = sorted(entry.name for entry in path.iterdir() if _NAME.fullmatch(entry.name)) if path.is_dir() else []
    for index, name in enumerate(names):
        if name != _segment_path(path, index).name:
            raise JournalError(f"{path}: {_segment_path(path, index).name} is missing, found {name}; restore a copy")
    return [path / name for name in names]


def _lock(path: Path) -> int:
    descriptor = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.read(descriptor, 32).decode(errors="replace").strip() or "unknown"
        os.close(descriptor)
        raise JournalError(f"{path}: another learner (process {holder}) has it open; end that one first") from error
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor
