# SPDX-License-Identifier: Apache-2.0
"""The newest picture of each camera that somebody looks at."""

import time
from collections.abc import Collection
from functools import partial
from typing import Any

import cv2
from rclpy.node import Node
from sensor_msgs.msg import Image
from serl_ros.images import encode_jpeg, rgb_from_message
from serl_ros.qos import SENSOR

_SUFFIX = "/color/image_raw"
_MOST_CAMERAS = 16
_SHOWN_WIDTH = 640  # [pixels] that are sent at most
_QUALITY = 80


class GraphPictures:
    """Finds cameras by their topics. A world draws only for those who subscribe, so we do while somebody looks."""

    def __init__(self, node: Node) -> None:
        """Look for cameras in the namespace of `node`."""
        self._node = node
        self._namespace = node.get_namespace().rstrip("/") + "/"
        self.cameras: tuple[str, ...] = ()
        self._subscriptions: dict[str, Any] = {}
        self._newest: dict[str, tuple[int, Image, float]] = {}

    def look(self) -> None:
        """Find new cameras; those that are known keep their place."""
        for topic, types in self._node.get_topic_names_and_types():
            if "sensor_msgs/msg/Image" in types and topic.startswith(self._namespace) and topic.endswith(_SUFFIX):
                camera = topic[len(self._namespace) : -len(_SUFFIX)]
                if "/" not in camera and camera not in self.cameras and len(self.cameras) < _MOST_CAMERAS:
                    self.cameras = (*self.cameras, camera)

    def watch(self, cameras: Collection[str]) -> None:
        """Subscribe to these, and to no others; called in the thread of the node's executor."""
        for camera in [each for each in self._subscriptions if each not in cameras]:
            self._node.destroy_subscription(self._subscriptions.pop(camera))
        for camera in cameras:
            if camera not in self._subscriptions and camera in self.cameras:
                self._subscriptions[camera] = self._node.create_subscription(
                    Image, f"{camera}{_SUFFIX}", partial(self._on_image, camera), SENSOR
                )

    def number(self, camera: str) -> int:
        """Number of the newest picture; 0 before the first."""
        newest = self._newest.get(camera)
        return 0 if newest is None else newest[0]

    def jpeg(self, camera: str) -> tuple[bytes, float]:
        """The newest picture as JPEG file, at most 640 pixels wide, and its age [s].

        Raises:
            ValueError: the message holds no picture.
        """
        _, message, arrived = self._newest[camera]
        rgb = rgb_from_message(message)
        height, width, _ = rgb.shape
        if width > _SHOWN_WIDTH:
            size = (_SHOWN_WIDTH, round(height * _SHOWN_WIDTH / width))
            rgb = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
        return encode_jpeg(rgb, _QUALITY).tobytes(), time.monotonic() - arrived

    def _on_image(self, camera: str, message: Image) -> None:
        self._newest[camera] = self.number(camera) + 1, message, time.monotonic()
