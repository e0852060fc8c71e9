# SPDX-License-Identifier: Apache-2.0
"""Images and intrinsics of a simulated pinhole camera."""

import math
from array import array

import numpy as np
from builtin_interfaces.msg import Time
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo, Image


def camera_info(fovy_deg: float, width: int, height: int, frame: str) -> CameraInfo:
    """Intrinsics of an ideal camera with square pixels.

    Args:
        fovy_deg: angle from the upper to the lower edge of the image.
        width: of the image [pixels].
        height: of the image [pixels].
        frame: name of the optical frame.
    """
    focal = 0.5 * height / math.tan(0.5 * math.radians(fovy_deg))
    # ROS counts pixels from the centre of the first one, so the middle of n pixels is at (n - 1) / 2.
    cx, cy = 0.5 * (width - 1), 0.5 * (height - 1)
    message = CameraInfo(width=width, height=height, distortion_model="plumb_bob")
    message.header.frame_id = frame
    message.d = array("d", [0.0] * 5)
    message.k = np.array([focal, 0.0, cx, 0.0, focal, cy, 0.0, 0.0, 1.0])
    message.r = np.eye(3).ravel()
    message.p = np.array([focal, 0.0, cx, 0.0, 0.0, focal, cy, 0.0, 0.0, 0.0, 1.0, 0.0])
    return message


def image(pixels: NDArray[np.uint8], stamp: Time, frame: str) -> Image:
    """Message of an RGB image, uint8 (height, width, 3)."""
    height, width, channels = pixels.shape
    message = Image(height=height, width=width, encoding="rgb8", is_bigendian=0, step=width * channels)
    message.header.stamp = stamp
    message.header.frame_id = frame
    message.data = array("B", pixels.tobytes())
    return message
