# SPDX-License-Identifier: Apache-2.0
"""Node `camera`: one camera, under the names of realsense2_camera."""

import cv2
import numpy as np
from geometry_msgs.msg import TransformStamped
from numpy.typing import NDArray
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo
from serl_robots.model.camera_info import ideal_camera_info, link_frame, optical_frame
from serl_ros.camera_publisher import CameraPublisher
from serl_ros.diagnostics import ERROR, OK, WARN, Diagnostics
from serl_ros.frames import declare_frame_prefix
from serl_ros.node import run_node
from serl_ros.parameters import ParameterError, declare
from serl_ros.qos import LATCHED
from tf2_msgs.msg import TFMessage

from serl_cameras.camera_calibration import load_calibration
from serl_cameras.capture import Capture
from serl_cameras.health import Limits, State
from serl_cameras.make_source import SOURCES, make_source
from serl_cameras.sources.source import SourceSettings

_CHECK_PERIOD = 0.2  # [s] of wall time between two looks at the camera's health
_LEVELS = {State.RUNNING: OK, State.OPENING: WARN, State.SLOW: WARN}


class CameraNode(Node):
    """Publishes what a source sees, as long as it can be trusted."""

    def __init__(self) -> None:
        """Declare parameters, connect and begin to read.

        Raises:
            ValueError: a parameter or a file cannot be used.
        """
        super().__init__("camera")
        # Pictures are small: more threads cost more than they save.
        cv2.setNumThreads(1)
        self._name = declare(self, "camera_name", self.get_name(), "Name of the camera in topics and frames.")
        kind = declare(self, "source", "v4l2", "Where pictures come from.", choices=tuple(SOURCES))
        settings = SourceSettings(
            video_device=declare(self, "video_device", "/dev/video0", "v4l2: the device."),
            pixel_format=declare(self, "pixel_format", "", "v4l2: four characters, YUYV or MJPG; empty: the driver's."),
            serial_no=declare(self, "serial_no", "", "realsense: serial number; empty: the only one there is."),
            path=declare(self, "path", "", "file: a video, or a folder of pictures."),
            width=declare(self, "image_width", 0, "Width [pixels]; 0: the source's own.", range=(0, 8192)),
            height=declare(self, "image_height", 0, "Height [pixels]; 0: the source's own.", range=(0, 8192)),
            framerate=declare(self, "framerate", 30.0, "Pictures in a second [Hz].", range=(0.1, 1000.0)),
        )
        limits = Limits(
            timeout=declare(self, "timeout", 1.0, "Longest time without a picture [s].", range=(0.05, 60.0)),
            frozen_after=declare(
                self, "frozen_after", 0.5, "Longest time with one and the same picture [s]; 0: any.", range=(0.0, 60.0)
            ),
            min_rate=declare(self, "min_rate", 10.0, "Fewest pictures in a second [Hz]; 0: any.", range=(0.0, 1000.0)),
        )
        if limits.min_rate > settings.framerate:
            raise ParameterError(
                f"parameter 'min_rate' of node '{self.get_name()}': expected at most the framerate, "
                f"{settings.framerate:g} Hz, found {limits.min_rate:g} Hz"
            )
        longest_delay = declare(
            self, "reconnect_timeout", 6.0, "Longest time until a lost camera is tried again [s].", range=(0.25, 600.0)
        )
        self._frame_prefix = declare_frame_prefix(self)
        self._frame = self._frame_prefix + optical_frame(self._name)
        self._info = self._calibration(settings)
        self._fovy_deg = declare(
            self,
            "fovy_deg",
            43.0,
            "Angle from the upper to the lower edge, where no calibration says more [degrees].",
            range=(1.0, 170.0),
        )
        quality = declare(self, "jpeg_quality", 95, "Of the compressed topic.", range=(1, 100))
        if declare(self, "publish_tf", True, "Publish the frame of the pictures in that of the camera's body."):
            self._tf_publisher = self.create_publisher(TFMessage, "/tf_static", LATCHED)
            self._tf_publisher.publish(TFMessage(transforms=[self._body_to_picture()]))
        self._publisher = CameraPublisher(self, self._name, jpeg_quality=quality)
        self._diagnostics = Diagnostics(self, hardware_id=self._name)
        self._device = {"v4l2": settings.video_device, "realsense": settings.serial_no, "file": settings.path}[kind]
        size = (self._info.width, self._info.height) if self._info else (settings.width, settings.height)
        self._capture = Capture(
            make_source(kind, settings),
            limits,
            self._on_picture,
            size=size if all(size) else None,
            longest_delay=longest_delay,
        )
        self._state = State.OPENING
        # On the steady clock: a paused simulation does not make a camera healthy.
        self._timer = self.create_timer(_CHECK_PERIOD, self._check, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._capture.start()
        self.get_logger().info(f"{self._name}: {kind} {self._device}")

    def close(self) -> None:
        """Stop reading."""
        self._capture.stop()

    def _calibration(self, settings: SourceSettings) -> CameraInfo | None:
        url = declare(self, "camera_info_url", "", "Calibration file, file:///...; empty: the device's own, or ideal.")
        if not url:
            return None
        info = load_calibration(url, self._frame)
        if settings.width and (info.width, info.height) != (settings.width, settings.height):
            raise ParameterError(
                f"parameter 'camera_info_url' of node '{self.get_name()}': expected a calibration for "
                f"{settings.width}x{settings.height}, found one for {info.width}x{info.height}"
            )
        return info

    def _on_picture(self, picture: NDArray[np.uint8], known: CameraInfo | None) -> None:
        """Runs in the capture's thread: what was seen must not wait for other callbacks."""
        if self._info is None:
            height, width, _ = picture.shape
            self._info = known or ideal_camera_info(self._fovy_deg, width, height, self._frame)
            self._info.header.frame_id = self._frame
        self._publisher.publish(picture, self._info, self.get_clock().now().to_msg())

    def _check(self) -> None:
        report = self._capture.report()
        self._diagnostics.set(
            "camera",
            _LEVELS.get(report.state, ERROR),
            f"{self._name}: {report.message}",
            state=report.state.value,
            rate=f"{report.rate:.1f} Hz",
            age="none yet" if report.age is None else f"{report.age:.2f} s",
            losses=report.losses,
            device=self._device,
        )
        if report.state is self._state:
            return
        was, self._state = self._state, report.state
        if report.state is State.RUNNING:
            self.get_logger().info(f"{self._name}: running" + ("" if was is State.OPENING else " again"))
        else:
            self.get_logger().warning(f"{self._name}: {report.state.value}: {report.message}")

    def _body_to_picture(self) -> TransformStamped:
        message = TransformStamped(child_frame_id=self._frame)
        message.header.frame_id = self._frame_prefix + link_frame(self._name)
        message.header.stamp = self.get_clock().now().to_msg()
        rotation = message.transform.rotation
        rotation.x, rotation.y, rotation.z, rotation.w = -0.5, 0.5, -0.5, 0.5
        return message


def main() -> None:
    """Entry point."""
    run_node(CameraNode)
