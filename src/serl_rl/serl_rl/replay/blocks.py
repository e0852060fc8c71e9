# SPDX-License-Identifier: Apache-2.0
"""Files of consecutive rows of a table, read through a memory map: a cache that can be made anew at any time.

    file   = magic "SERLBLK1" | u32 size of header | u32 crc of header | header | zeros up to byte 4096 | rows
    header = JSON {"crc": of the rows, "dtype": theirs, "first": number of the first, "rows": how many, "shape": of one}

Numbers are little-endian, checksums CRC-32. A file that is not complete ends in ".part".
"""

from __future__ import annotations

import json
import math
import mmap
import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

SUFFIX = ".block"
UNFINISHED = ".part"

_MAGIC = b"SERLBLK1"
_PREFIX = struct.Struct("<8sII")
_ROWS_AT = 4096
_READ = 2**20


@dataclass(frozen=True)
class Block:
    """What a file holds: `rows` rows of a shape and dtype, the first of which has the number `first`."""

    first: int
    rows: int
    shape: tuple[int, ...]
    dtype: str

    @property
    def row_bytes(self) -> int:
        """Bytes of a row."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    def header(self, crc: int) -> bytes:
        """The first bytes of a file with rows of this checksum."""
        about = {"crc": crc, "dtype": self.dtype, "first": self.first, "rows": self.rows, "shape": list(self.shape)}
        text = json.dumps(about, sort_keys=True).encode()
        return (_PREFIX.pack(_MAGIC, len(text), zlib.crc32(text)) + text).ljust(_ROWS_AT, b"\0")

    def is_said_by(self, path: Path) -> bool:
        """Whether the header of a file says that it holds this; its rows are not looked at."""
        try:
            with path.open("rb") as file:
                head = file.read(_ROWS_AT)
            _, length, _ = _PREFIX.unpack_from(head)
            crc = int(json.loads(head[_PREFIX.size : _PREFIX.size + length])["crc"])
        except (OSError, struct.error, ValueError, KeyError, TypeError):
            return False
        return head == self.header(crc)

    def is_in(self, path: Path, crc: int) -> bool:
        """Whether a file holds just this, with rows of this checksum: all of it is read."""
        try:
            with path.open("rb") as file:
                if os.fstat(file.fileno()).st_size != _ROWS_AT + self.rows * self.row_bytes:
                    return False
                if file.read(_ROWS_AT) != self.header(crc):
                    return False
                found = 0
                while data := file.read(_READ):
                    found = zlib.crc32(data, found)
        except OSError:
            return False
        return found == crc


class BlockWriter:
    """Writes the file of a block, piece by piece. Every method raises OSError where the disk does not take it.

    Args:
        path: of the file, which appears when it is complete.
        block: what will be in it.
    """

    def __init__(self, path: Path, block: Block) -> None:
        self._path, self._block = path, block
        self._part = path.with_suffix(UNFINISHED)
        self._descriptor = os.open(self._part, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC, 0o644)

    def write(self, place: int, rows: NDArray[Any]) -> None:
        """Put rows (n, *shape) at a place, counted from the first row of the block."""
        self._write(_ROWS_AT + place * self._block.row_bytes, rows.reshape(-1).view(np.uint8).data)

    def finish(self, crc: int) -> None:
        """Say what is in the file, and give it its name."""
        self._write(0, memoryview(self._block.header(crc)))
        self._part.replace(self._path)
        self.close()

    def close(self) -> None:
        """Leave the file as it is."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)

    def _write(self, offset: int, data: memoryview) -> None:
        while data:
            written = os.pwrite(self._descriptor, data, offset)
            data, offset = data[written:], offset + written


class MappedBlock:
    """The rows of a block, read from its file when they are looked at.

    Attributes:
        rows: (rows, *shape), read-only. They can be read for as long as somebody has them, though the file be deleted.
    """

    def __init__(self, path: Path, memory: mmap.mmap, rows: NDArray[Any], state: tuple[int, int, int]) -> None:
        self.rows = rows
        self._path, self._memory, self._state = path, memory, state

    @classmethod
    def open(cls, path: Path, block: Block) -> Self:
        """Map the file of a block. Raises OSError: it cannot be opened, or is too short."""
        with path.open("rb") as file:
            state = os.fstat(file.fileno())
            if state.st_size != _ROWS_AT + block.rows * block.row_bytes:
                raise OSError(f"{path}: expected {block.rows} rows, found {state.st_size} bytes")
            memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        memory.madvise(mmap.MADV_RANDOM)
        rows = np.frombuffer(memory, block.dtype, offset=_ROWS_AT).reshape(block.rows, *block.shape)
        return cls(path, memory, rows, (state.st_ino, state.st_size, state.st_mtime_ns))

    def release(self) -> None:
        """Give back the memory of the rows, which are read again when they are looked at."""
        self._memory.madvise(mmap.MADV_DONTNEED)

    @property
    def is_intact(self) -> bool:
        """Whether nobody has written to the file since. One that is deleted or replaced can still be read."""
        try:
            found = self._path.stat()
        except OSError:
            return True
        return found.st_ino != self._state[0] or (found.st_size, found.st_mtime_ns) == self._state[1:]
