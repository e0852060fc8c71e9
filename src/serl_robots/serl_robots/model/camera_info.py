# SPDX-License-Identifier: Apache-2.0
"""Intrinsics of cameras, and the names of their frames."""

import math
from array import array
from collections.abc import Sequence

import numpy as np
from sensor_msgs.msg import CameraInfo


def link_frame(camera: str) -> str:
    """Name of the frame of a camera's body: x forward, y left, z up, as realsense2_camera calls it."""
    return f"{camera}_link"


def optical_frame(camera: str) -> str:
    """Name of the frame of a camera's pictures: z forward, x right, y down."""
    return f"{camera}_color_optical_frame"


def ideal_camera_info(fovy_deg: float, width: int, height: int, frame: str) -> CameraInfo:
    """Intrinsics of an ideal camera with square pixels.

    Args:
        fovy_deg: angle from the upper to the lower edge of the picture.
        width: of the picture [pixels].
        height: of the picture [pixels].
        frame: name of the optical frame.
    """
    focal = 0.5 * height / math.tan(0.5 * math.radians(fovy_deg))
    # ROS counts pixels from the centre of the first one, so the middle of n pixels is at (n - 1) / 2.
    return pinhole_camera_info(
        width, height, frame, focal=(focal, focal), centre=(0.5 * (width - 1), 0.5 * (height - 1))
    )


def pinhole_camera_info(
    width: int,
    height: int,
    frame: str,
    *,
    focal: tuple[float, float],
    centre: tuple[float, float],
    distortion_model: str = "plumb_bob",
    distortion: Sequence[float] = (0.0,) * 5,
) -> CameraInfo:
    """Intrinsics of a single camera, whose rectified picture keeps the same projection.

    Args:
        width: of the picture [pixels].
        height: of the picture [pixels].
        frame: name of the optical frame.
        focal: lengths along the picture's x and y [pixels].
        centre: where the optical axis meets the picture, x and y [pixels].
        distortion_model: as sensor_msgs names them.
        distortion: its coefficients.
    """
    (fx, fy), (cx, cy) = focal, centre
    message = CameraInfo(width=width, height=height, distortion_model=distortion_model)
    message.header.frame_id = frame
    message.d = array("d", distortion)
    message.k = np.array([fx, 0.0, cx, 0.0, fy, cy, 0.0, 0.0, 1.0])
    message.r = np.eye(3).ravel()
    message.p = np.array([fx, 0.0, cx, 0.0, 0.0, fy, cy, 0.0, 0.0, 0.0, 1.0, 0.0])
    return message
