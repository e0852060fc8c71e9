# SPDX-License-Identifier: Apache-2.0
"""Webcams and other V4L2 (UVC) cameras, by OpenCV."""

import os
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from serl_cameras.sources.source import SourceError, SourceSettings, SourceSettingsError

# OpenCV's driver reads this before its first picture; 10 s by default, in which a silent camera could not be left.
os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", "2")


class V4l2Source:
    """One V4L2 device."""

    def __init__(self, settings: SourceSettings) -> None:
        """Check the settings; the device may be plugged in later.

        Raises:
            SourceSettingsError: no device is named, or the format is no four characters.
        """
        if not settings.video_device:
            raise SourceSettingsError("video_device: expected a device such as /dev/video0; see ./serl camera list")
        if len(settings.pixel_format) not in (0, 4):
            raise SourceSettingsError(
                f"pixel_format: expected four characters such as YUYV or MJPG, found {settings.pixel_format!r}"
            )
        self._settings = settings
        self._capture: cv2.VideoCapture | None = None

    def open(self) -> None:
        """See `Source`."""
        wanted = self._settings
        device = wanted.video_device
        if not Path(device).exists():
            raise SourceError(f"{device}: no such device; see ./serl camera list")
        if not os.access(device, os.R_OK | os.W_OK):
            raise SourceError(f"{device}: no permission; add yourself to the group 'video'")
        capture = cv2.VideoCapture(device, cv2.CAP_V4L2)
        self._capture = capture
        if not capture.isOpened():
            raise SourceError(f"{device}: is no camera, or another program uses it")
        if wanted.pixel_format:
            capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*wanted.pixel_format))
        if wanted.width:
            capture.set(cv2.CAP_PROP_FRAME_WIDTH, wanted.width)
            capture.set(cv2.CAP_PROP_FRAME_HEIGHT, wanted.height)
        capture.set(cv2.CAP_PROP_FPS, wanted.framerate)
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 2)  # what waits in a longer queue is old
        given = _four_characters(int(capture.get(cv2.CAP_PROP_FOURCC)))
        if wanted.pixel_format and given != wanted.pixel_format:
            raise SourceError(f"{device}: expected the pixel format {wanted.pixel_format}, the camera gives {given}")

    def read(self) -> NDArray[np.uint8]:
        """See `Source`."""
        if self._capture is None:
            raise SourceError(f"{self._settings.video_device}: is not open")
        there, pixels = self._capture.read()
        if not there:
            raise SourceError(f"{self._settings.video_device}: gives no picture any more")
        return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)  # type: ignore[return-value]  # uint8, as all its cameras

    def close(self) -> None:
        """See `Source`."""
        if self._capture is not None:
            self._capture.release()
            self._capture = None


def _four_characters(code: int) -> str:
    return code.to_bytes(4, "little", signed=code < 0).decode("ascii", errors="replace")
