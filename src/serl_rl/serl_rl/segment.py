# SPDX-License-Identifier: Apache-2.0
"""An append-only file of records in which every kind of damage shows.

    file   = magic "SERLSEG1" | u32 size of header | u32 crc of header | header | record ...
    header = JSON {"kind": what the records are, "spec": the TransitionSpec}
    record = u32 size of payload | u32 crc of payload | u32 crc of the 8 bytes before | payload

Numbers are little-endian, checksums CRC-32. The size of a record has a checksum of its own, so that a record cut off by
a crash (dropped when the file is opened again) can be told from one whose bytes were changed (an error).
"""

from __future__ import annotations

import json
import logging
import os
import struct
import threading
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from serl_config.files import FileError, open_file
from serl_config.strict_json import parse_json
from serl_config.text import printable

from serl_rl.spec import DataError, TransitionSpec

MAX_RECORD = 2**30

_MAGIC = b"SERLSEG1"
_FILE_PREFIX = struct.Struct("<8sII")
_RECORD_PREFIX = struct.Struct("<III")
_SIZES = struct.Struct("<II")
_MAX_HEADER = 2**16
_PAGE = 4096

_log = logging.getLogger(__name__)


class SegmentError(RuntimeError):
    """A file of records that cannot be used or written; what it held before is still there."""


def create(path: Path, kind: str, spec: TransitionSpec) -> None:
    """Create an empty file of records; it appears under its name complete or not at all."""
    header = json.dumps({"kind": kind, "spec": json.loads(spec.to_json())}, sort_keys=True).encode()
    content = _FILE_PREFIX.pack(_MAGIC, len(header), zlib.crc32(header)) + header
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
        sync_directory(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise SegmentError(f"{path}: cannot create it: {error}") from error


def sync_directory(path: Path) -> None:
    """Make a rename or a new file in a directory survive a power failure."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def scan(path: Path, kind: str, spec: TransitionSpec, *, torn_tail: bool = False) -> Iterator[tuple[int, bytes]]:
    """Yield `(offset behind the record, payload)` of every record.

    With `torn_tail`, a last record that a crash cut off ends the file quietly; otherwise it is an error. Raises
    SegmentError for a file of another kind or specification, or with damage, at the first damaged record.
    """
    found, offset = _read_header(path, kind)
    if found != spec:
        raise SegmentError(
            f"{path}: {spec.difference(found)}; it was made for another task or with other vision settings: make it "
            "again, or choose the task and the settings (--set vision...) that it was made with"
        )
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(offset)
        while offset < size:
            prefix = file.read(_RECORD_PREFIX.size)
            payload, problem = b"", "the record is incomplete"
            torn = len(prefix) < _RECORD_PREFIX.size
            if not torn:
                length, crc, prefix_crc = _RECORD_PREFIX.unpack(prefix)
                end = offset + _RECORD_PREFIX.size + length
                if zlib.crc32(prefix[: _SIZES.size]) != prefix_crc or length > MAX_RECORD:
                    torn, problem = _unwritten_from(path, offset, size), "the size of the record is damaged"
                elif end > size:
                    torn = True
                else:
                    payload = file.read(length)
                    if zlib.crc32(payload) == crc:
                        yield end, payload
                        offset = end
                        continue
                    torn, problem = _unwritten_from(path, offset, size), "the record is damaged"
            if torn and torn_tail:
                return
            raise SegmentError(f"{path}: {problem} at byte {offset} of {size}; nothing was changed, restore a copy")


def read_spec(path: Path, kind: str) -> TransitionSpec:
    """The specification of a file of records.

    Raises:
        SegmentError: it cannot be read, or is of another kind.
    """
    return _read_header(path, kind)[0]


def _unwritten_from(path: Path, offset: int, size: int) -> bool:
    """Whether the file reads as zeros from some page behind `offset` on, as it does after a power failure."""
    with path.open("rb") as file:
        file.seek(offset)
        written = offset + len(file.read(size - offset).rstrip(b"\0"))
    page = written + -written % _PAGE
    return page < size or written == offset


def _read_header(path: Path, kind: str) -> tuple[TransitionSpec, int]:
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
        raise SegmentError(f"{path}: the header is damaged; nothing was changed, restore a copy")
    try:
        tree = parse_json(header)
        spec = TransitionSpec.from_json(json.dumps(tree["spec"]))
        found = tree["kind"]
    except (ValueError, KeyError, TypeError, DataError) as error:
        raise SegmentError(f"{path}: expected a header with kind and spec, found {header[:80]!r} ({error})") from error
    if found != kind:
        raise SegmentError(f"{path}: expected a {kind} file, found a {found} file")
    return spec, _FILE_PREFIX.size + length


class SegmentWriter:
    """Appends records to a file made by `create`; opening it drops a record that a crash cut off.

    Raises SegmentError as `scan` does, before anything is changed.
    """

    def __init__(self, path: Path, kind: str, spec: TransitionSpec) -> None:
        self.path = path
        self.end = _read_header(path, kind)[1]
        for end, _ in scan(path, kind, spec, torn_tail=True):
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
        if self._broken:
            raise SegmentError(f"{self.path}: cannot be written since an earlier error; start again")
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
