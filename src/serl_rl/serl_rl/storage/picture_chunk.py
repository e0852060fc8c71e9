# SPDX-License-Identifier: Apache-2.0
"""Bytes of a chunk whose pictures are JPEG, as demonstration files hold them.

    u32 size of chunk | chunk | JPEG pictures, those of each camera in a row, cameras sorted by name

The chunk is one as `encode_chunk` makes it, in which each picture is replaced by the size of its JPEG: four bytes,
little-endian. Numbers are little-endian.
"""

from __future__ import annotations

import math
import struct
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serl_rl.spec import ArraySpec, DataError, TransitionSpec
from serl_rl.storage.chunk import Chunk, decode_chunk, encode_chunk
from serl_rl.storage.pictures import decode_jpeg, encode_jpeg
from serl_rl.storage.segment import MAX_RECORD

_PREFIX = struct.Struct("<I")
_SIZE = np.dtype("<u4")
_SIZE_ENTRY = ArraySpec((_SIZE.itemsize,), "uint8")


def jpeg_names(spec: TransitionSpec) -> tuple[str, ...]:
    """Entries whose pictures JPEG can hold, sorted."""
    return tuple(name for name, entry in spec.observation.items() if entry.kind == "image" and entry.shape[2] in (1, 3))


def encode_picture_chunk(chunk: Chunk, spec: TransitionSpec) -> bytes:
    """Check a chunk of `spec` and turn it into bytes, its pictures into JPEG.

    Raises:
        DataError: it contradicts itself or `spec`.
    """
    chunk.check(spec)
    sizes: dict[str, NDArray[Any]] = {}
    pictures: list[bytes] = []
    for name in jpeg_names(spec):
        encoded = [encode_jpeg(picture) for picture in chunk.observation[name]]
        sizes[name] = np.array([len(data) for data in encoded], _SIZE).view(np.uint8).reshape(-1, _SIZE.itemsize)
        pictures += encoded
    with_sizes = encode_chunk(replace(chunk, observation={**chunk.observation, **sizes}), _with_sizes(spec))
    return b"".join([_PREFIX.pack(len(with_sizes)), with_sizes, *pictures])


def decode_picture_chunk(data: bytes | memoryview, spec: TransitionSpec) -> Chunk:
    """Read a chunk of `spec` from bytes that may come from anyone. Inverse of `encode_picture_chunk`, but for the JPEG.

    Raises:
        DataError: no complete, valid chunk, or one whose pictures would be larger than a record may be.
    """
    view = memoryview(data).cast("B")
    if len(view) < _PREFIX.size:
        raise DataError("data", f"at least {_PREFIX.size} bytes", f"{len(view)} bytes")
    end = _PREFIX.size + _PREFIX.unpack_from(view)[0]
    if end > len(view):
        raise DataError("data", f"a chunk of at most {len(view) - _PREFIX.size} bytes", f"{end - _PREFIX.size} bytes")
    chunk = decode_chunk(view[_PREFIX.size : end], _with_sizes(spec))
    names = jpeg_names(spec)
    sizes = {name: chunk.observation[name].reshape(-1).view(_SIZE).tolist() for name in names}
    total = sum(map(sum, sizes.values()))
    if total != len(view) - end:
        raise DataError("data", f"{total} bytes of pictures", f"{len(view) - end} bytes")
    unpacked = sum(len(sizes[name]) * math.prod(spec.observation[name].shape) for name in names)
    if unpacked > MAX_RECORD:
        raise DataError("data", f"pictures of at most {MAX_RECORD} bytes", f"{unpacked} bytes")
    pictures: dict[str, NDArray[Any]] = {}
    for name in names:
        shape = spec.observation[name].shape
        pictures[name] = np.empty((len(sizes[name]), *shape), np.uint8)
        for index, size in enumerate(sizes[name]):
            pictures[name][index] = decode_jpeg(view[end : end + size], shape, f"observation.{name}[{index}]")
            end += size
        pictures[name].flags.writeable = False
    whole = replace(chunk, observation={**chunk.observation, **pictures})
    whole.check(spec)
    return whole


def _with_sizes(spec: TransitionSpec) -> TransitionSpec:
    """The specification with a size in place of each picture."""
    return replace(spec, observation={**spec.observation, **dict.fromkeys(jpeg_names(spec), _SIZE_ENTRY)})
