# SPDX-License-Identifier: Apache-2.0
"""Demonstration files: the chunks of successful episodes, one record each. Data, never code.

Of a task with cameras a file holds the pictures, as JPEG or raw, and not what an encoder made of them. So it can be
read for any settings of `vision`: frames are stacked, and features made of them, when it is read (`Encoding`). Older
files hold features; they can be read where the encoder is the one that made them.

Where it is known when the observations of a chunk were made, their stamps are a record of their own in front of it.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from serl_config.atomic_files import sync_directory

from serl_rl.spec import DataError, TransitionSpec
from serl_rl.storage import segment
from serl_rl.storage.chunk import Chunk, decode_chunk, encode_chunk
from serl_rl.storage.picture_chunk import decode_picture_chunk, encode_picture_chunk, jpeg_names
from serl_rl.storage.pictures import JPEG_QUALITY
from serl_rl.storage.segment import SegmentError, SegmentWriter
from serl_rl.storage.spec_header import expect_spec, read_spec_header, with_spec

DemonstrationError = SegmentError
"""A demonstration file that cannot be used or written; what it held before is still there."""

PictureStorage = Literal["jpeg", "raw"]

_KIND = "demonstrations"
_JPEG = {"jpeg": JPEG_QUALITY}  # in the header: pictures are JPEG, of this quality
_ABOUT = "about"
_CLOSED = {"closed": True}  # in the header: the last record says how many chunks there are
_END = struct.Struct("<8sI")
_END_MAGIC = b"SERLEND1"
_STAMP_MAGIC = b"SERLSTP1"
_STAMP = np.dtype("<i8")
_log = logging.getLogger(__name__)

Frames = Mapping[str, NDArray[Any]]
"""Rows of the observation entries that are no vectors, by name."""


@dataclass(frozen=True)
class Encoding:
    """How transitions with pictures become those with features.

    pictures: specification of the former, of single frames
    encode: from pictures (n, H, W, 3) uint8 of each camera to their features (n, K, h, w, C) float16
    """

    pictures: TransitionSpec
    encode: Callable[[Mapping[str, NDArray[np.uint8]]], Frames]


class DemonstrationFile:
    """A demonstration file that is being written.

    It gets its name when it is complete: until then it is ``<name>.part`` beside it, so a recording that is interrupted
    neither replaces an older file nor looks like a whole one. What an earlier one has left there, and holds episodes,
    is kept as ``<name>.1.part`` or the next number that is free.

    Args:
        path: of the file.
        spec: of the chunks.
        pictures: whether pictures become JPEG, `serl_rl.storage.pictures` says of which quality, or stay as they are.
        about: what else its header shall say, for whoever reads it with `demonstration_about`.

    Raises:
        DemonstrationError: it cannot be created, or somebody writes it now.
    """

    def __init__(
        self,
        path: Path,
        spec: TransitionSpec,
        pictures: PictureStorage = "jpeg",
        about: Mapping[str, Any] | None = None,
    ) -> None:
        self._path = path
        self._part = part_of(path)
        self._spec = spec
        self._count = 0
        jpeg = pictures == "jpeg" and bool(jpeg_names(spec))
        self._encode = encode_picture_chunk if jpeg else encode_chunk
        own = _CLOSED | (_JPEG if jpeg else {})
        with _alone_in(path.absolute().parent):  # who begins the same file now finds this one, and is refused
            _keep_older(path, self._part)
            segment.create(self._part, _KIND, with_spec(spec, own | ({_ABOUT: dict(about)} if about else {})))
            self._lock = _locked(self._part)
        try:
            self._writer = SegmentWriter(self._part, _KIND)
        except BaseException:
            os.close(self._lock)
            raise

    def append(self, chunk: Chunk, stamp: NDArray[np.int64] | None = None) -> None:
        """Write one chunk, with the stamps (n + 1,) [ns] of its observations where they are known.

        Raises DataError if it is not of the specification.
        """
        data = self._encode(chunk, self._spec)
        if stamp is not None:
            if stamp.shape != (len(chunk) + 1,):
                raise DataError("stamp", f"shape {(len(chunk) + 1,)}", f"shape {stamp.shape}")
            self._writer.append([_STAMP_MAGIC, stamp.astype(_STAMP).tobytes()])
        self._writer.append([data])
        self._count += 1

    def __enter__(self) -> DemonstrationFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _value: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close(kind is None)

    def close(self, finished: bool) -> None:
        """Close it, and give it its name if it is complete."""
        try:
            try:
                if finished:
                    self._writer.append([_END.pack(_END_MAGIC, self._count)])
            finally:
                self._writer.close()
            if finished:
                self._part.replace(self._path)
                sync_directory(self._path.parent)
        finally:
            os.close(self._lock)


def part_of(path: Path) -> Path:
    """Where a demonstration file is until it is complete."""
    return path.with_name(path.name + ".part")


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Wait until nobody else begins a file in a folder; where there are no locks, or no folder, go on without."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
    except OSError:  # what is wrong with it is said where the file is created
        yield
        return
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _keep_older(path: Path, part: Path) -> None:
    """Make place for a new part: an older one that holds records gets another name.

    Raises:
        DemonstrationError: somebody writes it now, or it cannot be put aside.
    """
    if not part.exists() and not part.is_symlink():
        return
    lock = _locked(part)
    try:
        if not any(True for _ in segment.readable(part, _KIND)):
            part.unlink()
            return
    except SegmentError:
        pass  # no file of ours, or a damaged one: whatever it is, it is kept
    finally:
        os.close(lock)
    number = 1
    while (kept := path.with_name(f"{path.name}.{number}.part")).exists() or kept.is_symlink():
        number += 1
    try:
        part.rename(kept)
    except OSError as error:
        raise DemonstrationError(f"{part}: an earlier recording left it, and it cannot be kept: {error}") from error
    _log.warning("%s is of a recording that did not end; it is kept as %s", part, kept)


def _locked(part: Path) -> int:
    """Descriptor of a file that nobody else writes; raises DemonstrationError."""
    try:
        descriptor = os.open(part, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise DemonstrationError(f"{part}: cannot be opened: {error}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise DemonstrationError(
            f"{part}: is being written by another recording: wait for its end, or choose another name"
        ) from error
    except OSError as error:  # a file system without locks
        _log.warning("%s: cannot be locked against other recordings (%s)", part, error)
    return descriptor


def demonstration_spec(path: Path) -> TransitionSpec:
    """The specification of what a demonstration file holds: of pictures, or of features in older files.

    Raises:
        DemonstrationError: the file is missing, damaged or of another kind.
    """
    return read_spec_header(path, _KIND).spec


def demonstration_about(path: Path) -> Mapping[str, Any]:
    """What `DemonstrationFile` was told about a file; raises as `demonstration_spec`."""
    about = read_spec_header(path, _KIND).about.get(_ABOUT, {})
    return about if isinstance(about, dict) else {}


def readable_demonstrations(
    path: Path, damaged: Callable[[DemonstrationError], None]
) -> Iterator[tuple[Chunk, NDArray[np.int64] | None]]:
    """Yield every chunk of a file that can be read, as it is in it, and the stamps (n + 1,) [ns] of its observations.

    Also of a file that was never closed, ``<name>.part`` of a recording that was killed.

    Args:
        path: of the file.
        damaged: is told of each damage, which is left out.

    Raises:
        DemonstrationError: its header cannot be read.
    """
    header = read_spec_header(path, _KIND)
    decode = decode_picture_chunk if "jpeg" in header.about else decode_chunk
    end, count, closed = header.end, 0, not header.about.get("closed")
    stamp: NDArray[np.int64] | None = None
    for offset, payload in segment.readable(path, _KIND):
        if offset != end:
            damaged(DemonstrationError(f"{path}: bytes {end} to {offset} are damaged and were left out"))
            stamp = None
        end = segment.end_of(offset, payload)
        if payload.startswith(_STAMP_MAGIC):
            rest = payload[len(_STAMP_MAGIC) :]
            stamp = np.frombuffer(rest, _STAMP).astype(np.int64) if len(rest) % _STAMP.itemsize == 0 else None
            continue
        if payload.startswith(_END_MAGIC):
            closed = True
            continue
        count += 1
        try:
            chunk = decode(payload, header.spec)
        except DataError as error:
            damaged(DemonstrationError(f"{path}: a chunk at byte {offset} was left out: {error}"))
        else:
            yield chunk, stamp if stamp is not None and len(stamp) == len(chunk) + 1 else None
        stamp = None
    if not closed or end != path.stat().st_size:
        damaged(DemonstrationError(f"{path}: ends behind {count} chunks, and not where it was closed"))


def read_demonstrations(path: Path, spec: TransitionSpec, encoding: Encoding | None = None) -> Iterator[Chunk]:
    """Yield the chunks of a demonstration file, as `spec` has them.

    Args:
        path: of the file.
        spec: of the chunks that are wanted.
        encoding: makes the features of `spec` where the file holds pictures; none if `spec` has no features.

    Raises:
        DemonstrationError: the file is missing, damaged, of another kind, of another task, or holds features of another
            encoder.
    """
    held = read_spec_header(path, _KIND).spec
    if held.encoder and not spec.agrees(held):
        raise DemonstrationError(
            f"{path}: {spec.difference(held)}; it was made for another task, or before such files held pictures, with "
            "features of an encoder that do not fit others: record it again, which makes a file for any encoder, or "
            "choose the settings that it was made with (--set vision.encoder...)"
        )
    source = encoding.pictures if encoding is not None and not held.encoder else spec
    if not held.encoder:
        source = replace(source, frame_stack=held.frame_stack)
    chunks = _read(path, source)
    if source.agrees(spec):
        yield from chunks
        return
    convert = _Converter(spec, encoding)
    for chunk in chunks:
        try:
            yield convert(chunk)
        except DataError as error:
            raise DemonstrationError(f"{path}: holds a chunk that cannot be used: {error}") from error


def _read(path: Path, spec: TransitionSpec) -> Iterator[Chunk]:
    """The chunks of a file of `spec` as they are in it."""
    header = read_spec_header(path, _KIND)
    expect_spec(path, header.spec, spec)
    decode = decode_picture_chunk if "jpeg" in header.about else decode_chunk
    count, closed = 0, not header.about.get("closed")  # older files have no end
    for _, payload in segment.scan(path, _KIND):
        if payload.startswith(_STAMP_MAGIC):
            continue
        if payload.startswith(_END_MAGIC):
            closed = payload == _END.pack(_END_MAGIC, count)
            continue
        count += 1
        try:
            yield decode(payload, spec)
        except DataError as error:
            raise DemonstrationError(f"{path}: holds a chunk that cannot be read: {error}") from error
    if not closed:
        raise DemonstrationError(f"{path}: ends behind {count} chunks, and not where it was closed; restore a copy")


class _Converter:
    """Turns the chunks of one file, in order, into those of another specification: other stacks, features.

    Consecutive chunks of an episode share a frame, the last of one and the first of the next. It is encoded once, so
    that its features are the same in both, as they are where an episode is encoded as it happens.
    """

    def __init__(self, spec: TransitionSpec, encoding: Encoding | None) -> None:
        self._spec = spec
        self._encode = encoding.encode if encoding is not None and spec.encoder else None
        self._newest: dict[str, NDArray[Any]] = {}  # as many frames as the next chunk may need
        self._next: tuple[str, int, int] | None = None  # actor, episode and step that would follow

    def __call__(self, chunk: Chunk) -> Chunk:
        """The chunk as the specification has it. Raises DataError if it needs frames of one that was left out."""
        follows = self._next == (chunk.actor_id, chunk.episode, chunk.first_step)
        if not follows and chunk.first_step and self._spec.frame_stack > 1:
            raise DataError("first_step", "0, or the step behind the chunk before it", str(chunk.first_step))
        new = {name: chunk.observation[name][chunk.history + follows :] for name in self._spec.frame_names}
        frames = new if self._encode is None else self._encode(new)
        if follows:
            frames = {name: np.concatenate([self._newest[name], rows]) for name, rows in frames.items()}
        self._newest = {name: rows[-self._spec.frame_stack :] for name, rows in frames.items()}
        self._next = (chunk.actor_id, chunk.episode, chunk.first_step + len(chunk))
        converted = replace(
            chunk,
            observation={**chunk.observation, **frames},
            encoder=self._spec.encoder,
            frame_stack=self._spec.frame_stack,
        )
        converted.check(self._spec)
        return converted
