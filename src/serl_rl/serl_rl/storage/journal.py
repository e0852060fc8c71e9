# SPDX-License-Identifier: Apache-2.0
"""Everything a learner ever acknowledged, in the order in which it did: a directory of segments.

One writer at a time, by a lock on the directory. A record is acknowledged when its bytes are with the kernel, so that
the learner may be killed at any moment; a thread synchronises them to the disk once a second against power failures.
Each segment names the journal that it belongs to, its place in it, and where its predecessor ended.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
import secrets
import struct
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import msgpack
from serl_config.atomic_files import write_whole
from serl_config.files import FileError, read_bytes
from serl_config.text import printable

from serl_rl.spec import TransitionSpec
from serl_rl.storage import segment
from serl_rl.storage.segment import DamageError, SegmentError, SegmentLost, SegmentWriter
from serl_rl.storage.spec_header import expect_spec, read_spec_header, with_spec

JournalError = SegmentError
"""A journal that cannot be used or written; what it held before is still there."""

JournalLost = SegmentLost
"""A journal whose files were taken away or changed while it was being written: nothing can be added to it any more."""

_KIND = "journal"
_NAME = re.compile(r"(\d{8})\.segment")
_META_SIZE = struct.Struct("<I")
_LOCK = "lock"

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
                segment.create(_segment_path(path, 0), _KIND, with_spec(spec, _about(secrets.token_hex(8), 0, 0)))
            self._index = max(count - 1, 0)
            self._writer = _open_segment(_segment_path(path, self._index), spec)
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
    def id(self) -> str:
        """What no other journal has; empty for one that was begun before there were ids."""
        return str(self._writer.header.about.get("journal", ""))

    @property
    def position(self) -> Position:
        """The place behind the newest record."""
        return Position(self._index, self._writer.end)

    def begins_at(self, position: Position) -> bool:
        """Whether a place is the one in front of the first record of a segment."""
        path = _segment_path(self.path, position.segment)
        return path.exists() and read_spec_header(path, _KIND).end == position.offset

    def sync(self) -> None:
        """Make everything that was appended survive a power failure."""
        with self._mutex:
            writer = self._writer
        writer.sync()

    def append(self, record: Record) -> Position:
        """Write a record; it outlives this process from the moment this returns.

        Raises JournalError when it cannot be written (disk full); the journal is then as before and stays usable.
        Raises JournalLost when its files are no longer what was written: deleted, replaced, changed.
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
        self._writer.check()
        segment.create(path, _KIND, with_spec(self.spec, _about(self.id, self._index + 1, self._writer.end)))
        writer = SegmentWriter(path, _KIND)
        self._writer.close()
        self._writer = writer
        self._index += 1

    def check(self) -> None:
        """Raise JournalLost unless all files are there that were written, and the newest is as it was left."""
        with self._mutex:
            self._writer.check()
            missing = [index for index in range(self._index) if not _segment_path(self.path, index).exists()]
        if missing:
            raise JournalLost(f"{_segment_path(self.path, missing[0])}: is gone while the journal was being written")

    def replay(self) -> Iterator[tuple[Position, Record]]:
        """Yield every record with the place behind it, oldest first. Raises JournalError at damage."""
        return read_journal(self.path, self.spec)

    def _keep_synchronised(self, interval: float) -> None:
        while not self._closed.wait(interval):
            try:
                self.sync()
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
    """Read a journal without locking it: yields every complete record with the place behind it, oldest first.

    Raises JournalError at damage, and where a segment is missing or not the one that belongs there.
    """
    paths = _segments(path)
    journal, end = "", 0
    for index, segment_path in enumerate(paths):
        try:
            header = read_spec_header(segment_path, _KIND)
            found = str(header.about.get("journal", ""))
            _check_place(segment_path, header.about, journal if index else found, index, end)
            journal, end = found, header.end
            expect_spec(segment_path, header.spec, spec)
            for end, payload in segment.scan(segment_path, _KIND, torn_tail=index == len(paths) - 1):
                yield Position(index, end), _unpack(segment_path, payload)
        except DamageError as error:
            raise _advised(path, error) from error


class Salvaged(NamedTuple):
    """A record that can be read, though perhaps not all of its journal can.

    position: behind it, in the journal that it comes from
    unbroken: nothing is missing before it
    """

    position: Position
    record: Record
    unbroken: bool


def salvage(path: Path) -> Iterator[Salvaged]:
    """Every record of a journal that can be read, oldest first, whatever has become of the rest.

    Behind a gap a record goes on under a session of its own, so that the records make a complete journal again.
    """
    numbers: dict[tuple[str, str], tuple[str, int, int]] = {}  # session -> its new name, where it began, what is next
    unbroken, before = True, 0
    for segment_path in sorted(entry for entry in path.iterdir() if _NAME.fullmatch(entry.name)):
        index = int(segment_path.stem)
        try:
            header = read_spec_header(segment_path, _KIND)
        except SegmentError as error:
            _log.error("left out: %s", error)
            unbroken = False
            continue
        unbroken &= header.about.get("previous_end", before) == before and header.about.get("index", index) == index
        before = header.end
        for offset, payload in segment.readable(segment_path, _KIND):
            unbroken &= offset == before
            before = segment.end_of(offset, payload)
            record = _unpack(segment_path, payload)
            key, first = (record.actor_id, record.session_id), record.first_sequence
            session, begin, following = numbers.get(key, (record.session_id, 0, 0))
            if not begin <= first <= following:
                session, begin = f"{record.session_id}+{first}", first
            numbers[key] = (session, begin, first + record.count)
            again = Record(record.actor_id, session, first - begin, record.count, record.data)
            yield Salvaged(Position(index, before), again, unbroken)


@dataclass(frozen=True)
class Unread:
    """Bytes of a journal that are no record."""

    file: Path
    offset: int
    size: int
    last: bool
    """Whether they are the very end, where a crash may have left half a record."""


def unread(path: Path) -> Iterator[Unread]:
    """What `salvage` has to leave out: damaged headers and records, oldest first."""
    segments = sorted(entry for entry in path.iterdir() if _NAME.fullmatch(entry.name))
    for segment_path in segments:
        size, before = segment_path.stat().st_size, 0
        try:
            before = read_spec_header(segment_path, _KIND).end
            for offset, payload in segment.readable(segment_path, _KIND):
                if offset > before:
                    yield Unread(segment_path, before, offset - before, False)
                before = segment.end_of(offset, payload)
        except SegmentError:
            pass  # all of it then, which `salvage` says with the reason
        if size > before:
            yield Unread(segment_path, before, size - before, segment_path == segments[-1])


def damaged_end(path: Path) -> str:
    """What is wrong behind the last record of a journal that can be read; empty where nothing is.

    A last record that a crash, or a learner that writes it now, has left half is none. Where something else before it
    is damaged, that is said; `salvage` tells of it, too.
    """
    segments = sorted(entry for entry in path.iterdir() if _NAME.fullmatch(entry.name))
    if not segments:
        return ""
    try:
        for _ in segment.scan(segments[-1], _KIND, torn_tail=True):
            pass
    except SegmentError as error:
        return str(error)
    return ""


def journal_spec(path: Path) -> TransitionSpec:
    """The specification of a journal: that of the first segment whose header can be read.

    Raises:
        JournalError: there is none.
    """
    problem = JournalError(f"{path}: expected segments of a journal, found none")
    for segment_path in sorted(entry for entry in path.glob("*") if _NAME.fullmatch(entry.name)):
        try:
            return read_spec_header(segment_path, _KIND).spec
        except SegmentError as error:
            problem = error
    raise problem


def journal_id(path: Path) -> str:
    """The id of a journal, which no other one has; empty for one that was begun before there were ids.

    Raises:
        JournalError: its first segment cannot be read, or there is none.
    """
    return str(read_spec_header(_segment_path(path, 0), _KIND).about.get("journal", ""))


def _about(journal: str, index: int, previous_end: int) -> dict[str, Any]:
    return {"journal": journal, "index": index, "previous_end": previous_end}


def _open_segment(path: Path, spec: TransitionSpec) -> SegmentWriter:
    try:
        expect_spec(path, read_spec_header(path, _KIND).spec, spec)
        return SegmentWriter(path, _KIND)
    except DamageError as error:
        raise _advised(path.parent, error) from error


def _advised(path: Path, error: DamageError) -> DamageError:
    """The error with what can be saved of the whole journal, and how."""
    counts = {True: 0, False: 0}
    for _, record, unbroken in salvage(path):
        counts[unbroken] += record.count
    total, behind = sum(counts.values()), counts[False]
    return DamageError(
        f"{error}, or write the {total} transitions of the journal that can be read, {behind} of them behind damage, "
        "into a new run: ./serl repair RUN"
    )


def _check_place(path: Path, about: Mapping[str, Any], journal: str, index: int, end: int) -> None:
    """Raise JournalError unless a segment says that this is its place. Those of older journals say nothing."""
    if not about:
        return
    for name, expected in _about(journal, index, end).items():
        if about.get(name) != expected:
            raise JournalError(
                f"{path}: {name}: expected {expected!r}, found {about.get(name)!r}; segments were exchanged or cut, "
                "nothing was changed, restore a copy"
            )


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


def check_free(path: Path) -> None:
    """Raise JournalError if a learner has the journal open; nothing is changed, and there need not be one."""
    if path.is_dir():
        os.close(_lock_directory(path))


def _lock(path: Path) -> int:
    """Lock the directory itself, which nobody deletes by tidying up; the file in it says who holds the lock."""
    descriptor = _lock_directory(path)
    with contextlib.suppress(OSError):  # a full disk, or something else of that name, is no reason not to read
        write_whole(path / _LOCK, f"{os.getpid()}\n".encode())
    return descriptor


def _lock_directory(path: Path) -> int:
    descriptor = -1
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if descriptor >= 0:
            os.close(descriptor)
        if not isinstance(error, BlockingIOError):
            raise JournalError(f"{path}: cannot be locked: {error}") from error
        process = _text(path / _LOCK)
        raise JournalError(f"{path}: another learner (process {process}) has it open; end that one first") from error
    return descriptor


def _text(path: Path) -> str:
    """What a small file says."""
    try:
        return printable(read_bytes(path, 32).decode(errors="replace").strip())
    except FileError:
        return "unknown"
