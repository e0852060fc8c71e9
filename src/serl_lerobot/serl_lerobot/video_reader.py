# SPDX-License-Identifier: Apache-2.0
"""Frames of a video for LeRobot 0.4, which asks torchvision for a reader that its newer versions do not have."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

from serl_config.optional import optional_module

_MICROSECONDS = 1_000_000  # in which PyAV counts a container's time


class VideoReader:
    """The frames of a file's video, in order; has what LeRobot uses of torchvision's class of this name."""

    def __init__(self, path: str, stream: str = "video") -> None:
        """Open it.

        Args:
            path: of the file.
            stream: kind of stream; there is only `video` here.

        Raises:
            ValueError: another kind of stream is asked for.
            ImportError: PyAV is not installed.
            OSError: the file cannot be read, or is no video.
        """
        if stream != "video":
            raise ValueError(f"{path}: expected the stream 'video', found {stream!r}")
        av = optional_module("av", extra="lerobot", needed_by="a video", error=ImportError)
        try:
            self.container: Any = av.open(path)
        except av.error.InvalidDataError as error:
            raise OSError(f"{path}: expected a video, found something else: {error}") from error
        if not self.container.streams.video:
            self.container.close()
            raise OSError(f"{path}: expected a file with a video, found none in it")

    def seek(self, time: float, keyframes_only: bool = False) -> VideoReader:
        """Go to the last key frame that is not after a time [s], from which the following ones can be decoded.

        Args:
            time: since the beginning [s].
            keyframes_only: accepted as torchvision does; what lies between key frames is never jumped to.
        """
        del keyframes_only
        self.container.seek(int(time * _MICROSECONDS), backward=True)
        return self

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Frames as `data`, a uint8 tensor (3, H, W), RGB, and `pts`, the time since the beginning [s]."""
        torch = importlib.import_module("torch")
        for frame in self.container.decode(video=0):
            picture = torch.from_numpy(frame.to_ndarray(format="rgb24"))
            yield {"data": picture.permute(2, 0, 1), "pts": float(frame.time)}
