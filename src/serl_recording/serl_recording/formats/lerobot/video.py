# SPDX-License-Identifier: Apache-2.0
"""Pictures as AV1 in MP4, as LeRobot writes them, and videos as pictures again."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from serl_config.files import FileError, open_file

from serl_recording.episode import RecordingError
from serl_recording.optional import require

CODEC: Final = "libsvtav1"
KEY_FRAMES: Final = 2
"""Every second picture can be decoded without others, as LeRobot has it: training draws single ones."""
QUALITY: Final = 20
"""Constant rate factor: finer than LeRobot's 30, since pictures for learning are small."""
PRESET: Final = 8

_FORMAT = "a LeRobot dataset with videos"


def encode_video(pictures: NDArray[np.uint8], rate: Fraction) -> bytes:
    """MP4 of pictures (n, H, W, 3) RGB, at a rate [Hz].

    Raises:
        RecordingError: the codec takes no pictures of this size.
    """
    av = require("av", _FORMAT)
    os.environ.setdefault("SVT_LOG", "1")  # the encoder tells its settings on stderr otherwise
    target = io.BytesIO()
    options = {"crf": str(QUALITY), "g": str(KEY_FRAMES), "preset": str(PRESET), "svtav1-params": "lp=1"}
    height, width = pictures.shape[1:3]
    try:
        with av.open(target, "w", format="mp4") as container:
            stream = container.add_stream(CODEC, rate=rate, options=options)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            for picture in pictures:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode())
    except av.FFmpegError as error:
        raise RecordingError(
            f"pictures of {height}x{width} cannot be a video ({error}): give --pictures png"
        ) from error
    return target.getvalue()


def decode_video(path: Path, begin: float, count: int, rate: float, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Pictures of a video, RGB.

    Args:
        path: of the file.
        begin: time of the first one [s].
        count: how many.
        rate: of the video [Hz].
        shape: (H, W, 3) that they have to have.

    Returns:
        (count, H, W, 3)

    Raises:
        RecordingError: it cannot be read, has other pictures, or ends before them.
    """
    av = require("av", _FORMAT)
    pictures = np.empty((count, *shape), np.uint8)
    found = 0
    try:
        # A name with a colon would be one of a protocol, and other containers may name further files.
        with open_file(path) as file, av.open(file, "r", format="mp4") as container:
            stream = container.streams.video[0]
            stream.thread_type, stream.thread_count = "SLICE", 1
            # Pictures may be larger than the file says. Codecs round sizes up.
            stream.codec_context.options = {"max_pixels": str((shape[0] + 128) * (shape[1] + 128))}
            if (stream.height, stream.width, 3) != shape:
                raise RecordingError(f"{path}: expected pictures of {shape}, found {stream.height}x{stream.width}")
            for picture in _from(container, stream, begin - 0.5 / rate):
                if (picture.height, picture.width) != shape[:2]:
                    raise RecordingError(
                        f"{path}: expected pictures of {shape}, found {picture.height}x{picture.width}"
                    )
                pictures[found] = picture.to_ndarray(format="rgb24")
                found += 1
                if found == count:
                    return pictures
    except FileError as error:
        raise RecordingError(f"{path}: cannot be read as a video: {error.reason}") from error
    except (av.FFmpegError, IndexError, ValueError, OSError) as error:
        raise RecordingError(f"{path}: cannot be read as a video: {error}") from error
    raise RecordingError(f"{path}: expected {count} pictures from {begin:.3f} s on, found {found}")


def _from(container: Any, stream: Any, begin: float) -> Iterator[Any]:
    """Frames that begin at or behind a time [s]."""
    if begin > 0:
        container.seek(int(begin / stream.time_base), stream=stream)
    for frame in container.decode(stream):
        if frame.pts is not None and float(frame.pts * stream.time_base) >= begin:
            yield frame
