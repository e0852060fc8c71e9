# SPDX-License-Identifier: Apache-2.0
"""An append-only file of records in which every kind of damage shows.

    file   = magic "SERLSEG1" | u32 size of header | u32 crc of header | header | record ...
    header = JSON {"kind": what the records are, and what else `create` was told of them}
    record = u32 size of payload | u32 crc of payload | u32 crc of the 8 bytes before | payload

Numbers are little-endian, checksums CRC-32. The size of a record has a checksum of its own, so that a last record that
a crash cut off (dropped when the file is opened again) can be told from everything else that may be wrong with a file,
which is damage: such a file is never changed, and what it still holds can be read with `readable`.
"""

from __future__ import annotations

import json
import logging
import os
import struct
import threading
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from serl_config.atomic_files import write_whole
from serl_config.files import FileError, open_file
from serl_config.strict_json import parse_json
from serl_config.text import printable

MAX_RECORD = 2**30

_MAGIC = b"SERLSEG1"
_FILE_PREFIX = struct.Struct("<8sII")
_RECORD_PREFIX = struct.Struct("<III")
_SIZES = struct.Struct("<II")
_MAX_HEADER = 2**16
_BLOCK = 2**20

_log = logging.getLogger(__name__)


class SegmentError(RuntimeError):
    """A file of records that cannot be used or written; what it held before is still there."""

    def __init__(self, text: str) -> None:
        super().__init__(printable(text))


class DamageError(SegmentError):
    """A file of records that was changed: says where, and how much of it can still be read."""


class SegmentLost(SegmentError):
    """The file that is being written is no longer the one under its name, or no longer what was written."""


@dataclass(frozen=True)
class Header:
    """What a file of records says of itself.

    about: a tree of JSON, what `create` was told beside the kind
    end: offset of the first record
    """

    about: Mapping[str, Any]
    end: int


def create(path: Path, kind: str, about: Mapping[str, Any]) -> None:
    """Create an empty file of records; it appears under its name complete or not at all.

    Args:
        path: of the file.
        kind: what the records are; who opens the file has to name it.
        about: a tree of JSON, what else the header says of them.

    Raises:
        SegmentError: it cannot be created, or says more than a header may, which nobody could read again.
    """
    header = json.dumps({**about, "kind": kind}, sort_keys=True).encode()
    if len(header) > _MAX_HEADER:
        raise SegmentError(f"{path}: expected a header of at most {_MAX_HEADER} bytes, found {len(header)}")
    try:
        write_whole(path, _FILE_PREFIX.pack(_MAGIC, len(header), zlib.crc32(header)) + header)
    except OSError as error:
        raise SegmentError(f"{path}: cannot create it: {error}") from error


def scan(path: Path, kind: str, *, torn_tail: bool = False) -> Iterator[tuple[int, bytes]]:
    """Yield `(offset behind the record, payload)` of every record.

    With `torn_tail`, a last record that a crash cut off ends the file quietly; otherwise it is an error. Raises
    SegmentError for a file of another kind, DamageError at the first damaged record.
    """
    start = offset = read_header(path, kind).end
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(offset)
        while offset < size:
            payload, problem, torn = _read_record(file.read, offset, size)
            if problem:
                if torn and torn_tail:
                    return
                raise DamageError(f"{path}: {problem} at byte {offset} of {size}; {_survey(path, start, offset)}")
            offset = end_of(offset, payload)
            yield offset, payload


def readable(path: Path, kind: str) -> Iterator[tuple[int, bytes]]:
    """Yield `(offset, payload)` of every record that can be read, whatever lies between them.

    Raises:
        SegmentError: the header cannot be read.
    """
    return _readable(path, read_header(path, kind).end)


def end_of(offset: int, payload: bytes) -> int:
    """The offset behind a record."""
    return offset + _RECORD_PREFIX.size + len(payload)


def _readable(path: Path, offset: int) -> Iterator[tuple[int, bytes]]:
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        while offset < size:
            file.seek(offset)
            payload, problem, _ = _read_record(file.read, offset, size)
            if not problem:
                yield offset, payload
                offset = end_of(offset, payload)
                continue
            file.seek(offset + 1)
            offset += 1 + _next_prefix(file.read(_BLOCK + _RECORD_PREFIX.size - 1))


def _read_record(read: Any, offset: int, size: int) -> tuple[bytes, str, bool]:
    """The payload of the record at `offset`, what is wrong with it, and whether it is only cut off."""
    prefix = read(_RECORD_PREFIX.size)
    if len(prefix) < _RECORD_PREFIX.size:
        return b"", "the last record is incomplete", True
    length, crc, prefix_crc = _RECORD_PREFIX.unpack(prefix)
    if zlib.crc32(prefix[: _SIZES.size]) != prefix_crc or length > MAX_RECORD:
        return b"", "the size of the record is damaged", False
    if offset + _RECORD_PREFIX.size + length > size:
        return b"", "the last record is incomplete", True
    payload = read(length)
    return (payload, "", False) if zlib.crc32(payload) == crc else (b"", "the record is damaged", False)


def _next_prefix(data: bytes) -> int:
    """Index of the first bytes that look like the prefix of a record; of the last that may begin one if none does."""
    values = np.frombuffer(data, np.uint8)
    count = len(values) - _RECORD_PREFIX.size + 1
    if count < 1:
        return len(values)
    crc = np.full(count, _CRC_OF_ZEROS, np.uint32)
    for place, table in enumerate(_CRC_TABLES):
        crc ^= table[values[place : place + count]]
    found = np.zeros(count, np.uint32)
    for place in range(4):
        found |= values[_SIZES.size + place :][:count].astype(np.uint32) << np.uint32(8 * place)
    matches = np.flatnonzero(crc == found)
    return int(matches[0]) if len(matches) else count


def _crc_tables() -> list[NDArray[np.uint32]]:
    """What each value at each of eight places adds to the CRC-32 of eight zeros, which is linear in them."""
    zeros = bytes(_SIZES.size)
    return [
        np.array(
            [zlib.crc32(zeros[:at] + bytes([value]) + zeros[at + 1 :]) ^ _CRC_OF_ZEROS for value in range(256)],
            np.uint32,
        )
        for at in range(_SIZES.size)
    ]


_CRC_OF_ZEROS = np.uint32(zlib.crc32(bytes(_SIZES.size)))
_CRC_TABLES = _crc_tables()


def _survey(path: Path, start: int, damage: int) -> str:
    """How much of a damaged file can still be read, in words."""
    sizes: dict[bool, list[int]] = {True: [], False: []}
    for offset, payload in _readable(path, start):
        sizes[offset < damage].append(len(payload))
    before, behind = (f"{len(each)} records ({sum(each)} bytes)" for each in sizes.values())
    return f"{before} can be read before it, {behind} behind it; nothing was changed, restore a copy"


def read_header(path: Path, kind: str) -> Header:
    """What a file of records says of itself.

    Raises:
        SegmentError: it cannot be read, or is of another kind.
        DamageError: its header is damaged.
    """
    try:
        with open_file(path) as file:
            prefix = file.read(_FILE_PREFIX.size)
            if len(prefix) < _FILE_PREFIX.size or not prefix.startswith(_MAGIC):
                raise SegmentError(f"{path}: expected a {kind} file ({_MAGIC!r}), found {prefix[:8]!r}")
            _, length, crc = _FILE_PREFIX.unpack(prefix)
            header = file.read(length) if length <= _MAX_HEADER else b""
    except FileError as error:
        raise SegmentError(f"{printable(path)}: cannot read it: {error.reason}") from error
    except OSError as error:
        raise SegmentError(f"{path}: cannot read it: {error}") from error
    if len(header) != length or zlib.crc32(header) != crc:
        raise DamageError(f"{path}: the header is damaged; nothing was changed, restore a copy")
    try:
        tree = parse_json(header)
        found = tree.pop("kind")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SegmentError(
            f"{path}: expected a header with the kind of the records, found {header[:80]!r} ({error})"
        ) from error
    if found != kind:
        raise SegmentError(f"{path}: expected a {kind} file, found a {found} file")
    return Header(tree, _FILE_PREFIX.size + length)


class SegmentWriter:
    """Appends records to a file made by `create`; opening it drops a record that a crash cut off.

    Raises SegmentError as `scan` does, before anything is changed.
    """

    def __init__(self, path: Path, kind: str) -> None:
        self.path = path
        self.header = read_header(path, kind)
        self.end = self.header.end
        for end, _ in scan(path, kind, torn_tail=True):
            self.end = end
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        self._dirty = False
        self._broken = False
        self._sync_mutex = threading.Lock()
        surplus = os.fstat(self._descriptor).st_size - self.end
        if surplus:
            _log.warning("%s: dropped %d bytes of a record that a crash cut off", path, surplus)
            os.ftruncate(self._descriptor, self.end)
            os.fsync(self._descriptor)

    def append(self, parts: Sequence[bytes | memoryview]) -> int:
        """Write one record whose payload is the concatenation of `parts`; returns the offset behind it.

        On return the bytes are with the kernel: they outlive this process, and a power failure after `sync`. On
        SegmentError (disk full) the file is as it was before, and a later append may succeed.
        """
        self.check()
        size, crc = 0, 0
        for part in parts:
            size += len(part)
            crc = zlib.crc32(part, crc)
        if size > MAX_RECORD:
            raise SegmentError(f"{self.path}: expected a record of at most {MAX_RECORD} bytes, found {size}")
        sizes = _SIZES.pack(size, crc)
        prefix = sizes + struct.pack("<I", zlib.crc32(sizes))
        try:
            self._write([memoryview(prefix), *(memoryview(part) for part in parts)])
        except OSError as error:
            self._undo()
            raise SegmentError(f"{self.path}: cannot append {size} bytes: {error}; nothing was lost") from error
        self.end += len(prefix) + size
        self._dirty = True
        return self.end

    def check(self) -> None:
        """Raise SegmentLost unless what was written is what lies under the path, and can be added to."""
        if self._broken:
            raise SegmentLost(f"{self.path}: cannot be written since an earlier error; start again")
        try:
            there = self.path.stat()
        except OSError as error:
            raise SegmentLost(f"{self.path}: is gone while it was being written ({error.strerror})") from error
        ours = os.fstat(self._descriptor)
        if (there.st_dev, there.st_ino) != (ours.st_dev, ours.st_ino):
            raise SegmentLost(f"{self.path}: was replaced by another file while it was being written")
        if there.st_size != self.end:
            raise SegmentLost(
                f"{self.path}: was changed by somebody else while it was being written: "
                f"expected {self.end} bytes, found {there.st_size}"
            )

    def _write(self, parts: list[memoryview]) -> None:
        while parts:
            written = os.writev(self._descriptor, parts)
            while parts and written >= len(parts[0]):
                written -= len(parts.pop(0))
            if parts:
                parts[0] = parts[0][written:]

    def _undo(self) -> None:
        try:
            os.ftruncate(self._descriptor, self.end)
        except OSError:
            self._broken = True
            _log.exception("%s: cannot remove an incomplete record", self.path)

    def sync(self) -> None:
        """Make what was appended survive a power failure. May run in another thread than `append` and `close`."""
        with self._sync_mutex:
            self._sync()

    def _sync(self) -> None:
        if not self._dirty:
            return
        self._dirty = False
        try:
            os.fdatasync(self._descriptor)
        except OSError as error:
            self._dirty = True
            raise SegmentError(f"{self.path}: cannot be synchronised to the disk: {error}") from error

    def close(self) -> None:
        """Synchronise and close."""
        with self._sync_mutex:
            try:
                self._sync()
            finally:
                self._dirty = False
                os.close(self._descriptor)
