# SPDX-License-Identifier: Apache-2.0
"""TFRecord files.

    record = u64 size | u32 masked CRC-32C of the size | payload | u32 masked CRC-32C of the payload

Numbers are little-endian. A masked checksum is that turned right by 15 bits, plus 0xa282ead8.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from serl_config.files import FileError, open_file

from serl_recording.episode import RecordingError
from serl_recording.optional import require

MAX_RECORD: Final = 2**30
"""[bytes] of a payload."""

_HEAD = struct.Struct("<QI")
_CRC = struct.Struct("<I")
_FORMAT = "an RLDS dataset"


def _checksum() -> Callable[[bytes], int]:
    crc32c = require("google_crc32c", _FORMAT)

    def masked(data: bytes) -> int:
        crc = crc32c.value(data)
        return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF

    return masked


class RecordWriter:
    """Writes a file record by record; each outlives this process from the moment `append` returns.

    Raises:
        RecordingError: it cannot be created.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._masked = _checksum()
        try:
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise RecordingError(f"{path}: cannot be created: {error.strerror}") from error
        self.end = 0

    def append(self, payload: bytes) -> None:
        """Write one record; on RecordingError (disk full) the file is as it was before."""
        if len(payload) > MAX_RECORD:
            raise RecordingError(f"{self._path}: expected a record of at most {MAX_RECORD} bytes, found {len(payload)}")
        size = struct.pack("<Q", len(payload))
        record = b"".join([size, _CRC.pack(self._masked(size)), payload, _CRC.pack(self._masked(payload))])
        try:
            rest = memoryview(record)
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError as error:
            os.ftruncate(self._descriptor, self.end)
            raise RecordingError(f"{self._path}: cannot be written: {error.strerror}; nothing was lost") from error
        self.end += len(record)

    def close(self) -> None:
        """Synchronise with the disk, and close."""
        try:
            os.fsync(self._descriptor)
        finally:
            os.close(self._descriptor)


def read_records(path: Path, damaged: Callable[[RecordingError], None]) -> Iterator[bytes]:
    """The payloads of a file.

    Args:
        path: of the file.
        damaged: is told of a payload that was changed, which is left out, and of a size that was changed, behind which
            nothing can be found.

    Raises:
        RecordingError: there is no such file.
    """
    masked = _checksum()
    try:
        with open_file(path) as file:
            size, offset = os.fstat(file.fileno()).st_size, 0
            while offset < size:
                head = file.read(_HEAD.size)
                if len(head) < _HEAD.size:
                    damaged(RecordingError(f"{path}: the last record, at byte {offset}, is incomplete"))
                    return
                length, crc = _HEAD.unpack(head)
                if masked(head[:8]) != crc or length > MAX_RECORD:
                    damaged(RecordingError(f"{path}: the size of the record at byte {offset} of {size} is damaged"))
                    return
                if offset + _HEAD.size + length + _CRC.size > size:
                    damaged(RecordingError(f"{path}: the last record, at byte {offset}, is incomplete"))
                    return
                payload = file.read(length)
                if _CRC.unpack(file.read(_CRC.size))[0] == masked(payload):
                    yield payload
                else:
                    damaged(RecordingError(f"{path}: the record at byte {offset} is damaged and was left out"))
                offset += _HEAD.size + length + _CRC.size
    except FileError as error:
        raise RecordingError(f"{path}: cannot be read: {error.reason}") from error
