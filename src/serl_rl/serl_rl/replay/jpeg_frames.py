# SPDX-License-Identifier: Apache-2.0
"""Pictures kept as JPEG: encoded once when they are stored, decoded by all cores whenever they are drawn."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from serl_rl.replay.frames import Request
from serl_rl.spec import ArraySpec, DataError

_BLOCKS_PER_THREAD = 4


@cache
def _threads() -> ThreadPoolExecutor:
    """One for each core, for all buffers; OpenCV lets them work at the same time."""
    return ThreadPoolExecutor(_cores(), thread_name_prefix="jpeg")


def _cores() -> int:
    return len(os.sched_getaffinity(0))


class JpegFrames:
    """Pictures of one camera.

    Args:
        entry: pictures (H, W, 3) in RGB, or (H, W, 1).
        rows: how many.
        quality: 1 to 100; 95 changes a value by 1 on average.

    Raises:
        DataError: pictures have another number of channels.
    """

    views = 1

    def __init__(self, entry: ArraySpec, rows: int, quality: int) -> None:
        if entry.shape[-1] not in (1, 3):
            raise DataError("storage", "pictures of 1 or 3 channels for jpeg", f"{entry.shape}; use storage raw")
        self._shape = entry.shape
        self._quality = quality
        self._pictures = [b""] * rows
        self._bytes = 0

    @property
    def nbytes(self) -> int:
        """Bytes that are allocated."""
        return sys.getsizeof(self._pictures) + self._bytes

    def write(self, rows: NDArray[np.int64], frames: NDArray[np.uint8]) -> None:
        """Encode pictures (n, H, W, C) into rows (n)."""
        places = (rows % len(self._pictures)).tolist()
        for row, picture in zip(places, _threads().map(self._encode, frames), strict=True):
            if self._pictures[row]:
                self._bytes -= sys.getsizeof(self._pictures[row])
            self._bytes += sys.getsizeof(picture)
            self._pictures[row] = picture

    def _encode(self, picture: NDArray[np.uint8]) -> bytes:
        ordered = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR) if self._shape[-1] == 3 else picture
        done, encoded = cv2.imencode(".jpg", ordered, [cv2.IMWRITE_JPEG_QUALITY, self._quality])
        if not done:
            raise RuntimeError(f"OpenCV cannot encode a picture {picture.shape} as JPEG")
        return encoded.tobytes()

    def gather(self, requests: Sequence[Request]) -> Callable[[], None]:
        """Look up pictures; what is returned decodes each of them once, into all the places where it is wanted."""
        places = [out[place] for index, out in requests for place in np.ndindex(index.shape)]
        rows = np.concatenate([index.ravel() for index, _ in requests]) % len(self._pictures)
        wanted, counts = np.unique(rows, return_counts=True)
        order = np.argsort(rows, kind="stable").tolist()
        stops = np.cumsum(counts).tolist()
        jobs = [
            (self._pictures[row], [places[i] for i in order[stop - count : stop]])
            for row, stop, count in zip(wanted.tolist(), stops, counts.tolist(), strict=True)
        ]
        return lambda: self._decode(jobs)

    def _decode(self, jobs: list[tuple[bytes, list[NDArray[np.uint8]]]]) -> None:
        flag = cv2.IMREAD_COLOR_RGB if self._shape[-1] == 3 else cv2.IMREAD_GRAYSCALE

        def decode(block: list[tuple[bytes, list[NDArray[np.uint8]]]]) -> None:
            for encoded, places in block:
                picture = cv2.imdecode(np.frombuffer(encoded, np.uint8), flag)
                if picture is None:
                    raise RuntimeError(f"OpenCV cannot decode {len(encoded)} bytes that it has encoded")
                for place in places:
                    place[...] = picture.reshape(self._shape)

        blocks = _BLOCKS_PER_THREAD * _cores()
        for _ in _threads().map(decode, [jobs[i::blocks] for i in range(blocks)]):
            pass
