# SPDX-License-Identifier: Apache-2.0
"""The colour camera of a RealSense, by pyrealsense2, which is imported only here."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo
from serl_robots.model.camera_info import pinhole_camera_info

from serl_cameras.sources.source import SourceError, SourceSettings, SourceSettingsError

_READ_TIMEOUT_MS = 2000


class RealsenseSource:
    """One RealSense. It knows its own intrinsics."""

    def __init__(self, settings: SourceSettings) -> None:
        """Import the library; the device may be plugged in later.

        Raises:
            SourceSettingsError: pyrealsense2 is not installed.
        """
        try:
            import pyrealsense2
        except ImportError as error:
            raise SourceSettingsError(
                "source: 'realsense' needs pyrealsense2: install it with `./serl shell` and `pip install pyrealsense2`,"
                " or start realsense2_camera in this node's place"
            ) from error
        self._library: Any = pyrealsense2
        self._settings = settings
        self._pipeline: Any = None

    def open(self) -> CameraInfo:
        """See `Source`."""
        library, wanted = self._library, self._settings
        configuration = library.config()
        if wanted.serial_no:
            configuration.enable_device(wanted.serial_no)
        configuration.enable_stream(
            library.stream.color, wanted.width, wanted.height, library.format.rgb8, round(wanted.framerate)
        )
        pipeline = library.pipeline()
        try:
            profile = pipeline.start(configuration)
        except RuntimeError as error:  # all that the library raises
            raise SourceError(f"RealSense {wanted.serial_no or '(any)'}: {error}; see ./serl camera list") from error
        self._pipeline = pipeline
        intrinsics = profile.get_stream(library.stream.color).as_video_stream_profile().get_intrinsics()
        return pinhole_camera_info(
            intrinsics.width,
            intrinsics.height,
            "",
            focal=(intrinsics.fx, intrinsics.fy),
            centre=(intrinsics.ppx, intrinsics.ppy),
            distortion=intrinsics.coeffs,
        )

    def read(self) -> NDArray[np.uint8]:
        """See `Source`."""
        if self._pipeline is None:
            raise SourceError(f"RealSense {self._settings.serial_no or '(any)'}: is not open")
        try:
            frame = self._pipeline.wait_for_frames(_READ_TIMEOUT_MS).get_color_frame()
        except RuntimeError as error:
            raise SourceError(f"RealSense {self._settings.serial_no or '(any)'}: {error}") from error
        return np.array(frame.get_data(), np.uint8)  # a copy: the library uses the frame's memory again

    def close(self) -> None:
        """See `Source`."""
        pipeline, self._pipeline = self._pipeline, None
        if pipeline is not None:
            try:
                pipeline.stop()
            except RuntimeError as error:
                raise SourceError(f"RealSense {self._settings.serial_no or '(any)'}: {error}") from error
