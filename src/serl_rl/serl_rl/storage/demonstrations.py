# SPDX-License-Identifier: Apache-2.0
"""Demonstration files: the chunks of successful episodes, one record each. Data, never code."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from serl_config.atomic_files import sync_directory

from serl_rl.spec import DataError, TransitionSpec
from serl_rl.storage import segment
from serl_rl.storage.chunk import Chunk, decode_chunk, encode_chunk
from serl_rl.storage.segment import SegmentError, SegmentWriter

DemonstrationError = SegmentError
"""A demonstration file that cannot be used or written; what it held before is still there."""

_KIND = "demonstrations"
_CLOSED = {"closed": True}  # in the header: the last record says how many chunks there are
_END = struct.Struct("<8sI")
_END_MAGIC = b"SERLEND1"


class DemonstrationFile:
    """A demonstration file that is being written.

    It gets its name when it is complete: until then it is ``<name>.part`` beside it, so a recording that is interrupted
    neither replaces an older file nor looks like a whole one.

    Raises:
        DemonstrationError: it cannot be created.
    """

    def __init__(self, path: Path, spec: TransitionSpec) -> None:
        self._path = path
        self._part = path.with_name(path.name + ".part")
        self._spec = spec
        self._part.unlink(missing_ok=True)
        self._count = 0
        segment.create(self._part, _KIND, spec, _CLOSED)
        self._writer = SegmentWriter(self._part, _KIND, spec)

    def append(self, chunk: Chunk) -> None:
        """Write one chunk; raises DataError if it is not of the specification."""
        self._writer.append([encode_chunk(chunk, self._spec)])
        self._count += 1

    def __enter__(self) -> DemonstrationFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _value: BaseException | None, _trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._writer.append([_END.pack(_END_MAGIC, self._count)])
        finally:
            self._writer.close()
        if kind is None:
            self._part.replace(self._path)
            sync_directory(self._path.parent)


def read_demonstrations(path: Path, spec: TransitionSpec) -> Iterator[Chunk]:
    """Yield the chunks of a demonstration file.

    Raises:
        DemonstrationError: the file is missing, damaged, of another kind, or of another task.
    """
    count, closed = 0, not segment.read_header(path, _KIND).about.get("closed")  # older files have no end
    for _, payload in segment.scan(path, _KIND, spec):
        if payload.startswith(_END_MAGIC):
            closed = payload == _END.pack(_END_MAGIC, count)
            continue
        count += 1
        try:
            yield decode_chunk(payload, spec)
        except DataError as error:
            raise DemonstrationError(f"{path}: holds a chunk that cannot be read: {error}") from error
    if not closed:
        raise DemonstrationError(f"{path}: ends behind {count} chunks, and not where it was closed; restore a copy")
