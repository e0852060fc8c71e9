# SPDX-License-Identifier: Apache-2.0
"""Where pictures come from: the protocol that every source implements, and what it is told and may raise."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo


class SourceError(Exception):
    """There is no picture, and may be one after another try: unplugged, in use, damaged."""


class SourceSettingsError(ValueError):
    """The source can never work as it was asked for."""


@dataclass(frozen=True, kw_only=True)
class SourceSettings:
    """What to open, and how."""

    video_device: str = ""
    """V4L2 device, such as /dev/video0 or one of the lasting names in /dev/v4l/by-id."""
    pixel_format: str = ""
    """V4L2 format as four characters, such as YUYV or MJPG; empty: as the driver has it."""
    serial_no: str = ""
    """Serial number of a RealSense; empty: the only one that is plugged in."""
    path: str = ""
    """Video file, or folder of pictures."""
    width: int = 0
    """Width of the pictures [pixels]; 0: as the source has it."""
    height: int = 0
    """Height of the pictures [pixels]; 0: as the source has it."""
    framerate: float = 30.0
    """Pictures in a second that are asked for [Hz]."""


class Source(Protocol):
    """One camera. All methods are called from one thread."""

    def open(self) -> CameraInfo | None:
        """Begin to take pictures; intrinsics (without a frame) where the device knows its own.

        Raises:
            SourceError: not possible now.
        """

    def read(self) -> NDArray[np.uint8]:
        """Wait for the next picture: RGB, uint8 (H, W, 3), an array of its own.

        Raises:
            SourceError: none comes; the source must be closed.
        """

    def close(self) -> None:
        """Let go of the device; also after a failed `open`, and twice."""
