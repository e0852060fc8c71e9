# SPDX-License-Identifier: Apache-2.0
"""The newest picture of each camera in the running graph."""

import time
from collections.abc import Sequence
from functools import partial

from rclpy.node import Node
from sensor_msgs.msg import Image
from serl_ros.images import ImageError, rgb_from_message
from serl_ros.qos import SENSOR

from serl_cameras.crop_page.crop_server import Seen


class CameraListener:
    """Subscribes to cameras; may be asked from any thread while the node is spun in another."""

    def __init__(self, node: Node, cameras: Sequence[str]) -> None:
        """Subscribe to `<camera>/color/image_raw` of each camera."""
        self._topics = {camera: node.resolve_topic_name(f"{camera}/color/image_raw") for camera in cameras}
        self._newest: dict[str, tuple[Image, float]] = {}
        self._subscriptions = [
            node.create_subscription(Image, topic, partial(self._on_image, camera), SENSOR)
            for camera, topic in self._topics.items()
        ]

    def newest(self, camera: str) -> Seen:
        """The newest picture of a camera, or why there is none."""
        if camera not in self._newest:
            return Seen(None, None, f"nothing on {self._topics[camera]} yet")
        message, arrived = self._newest[camera]
        age = time.monotonic() - arrived
        try:
            return Seen(rgb_from_message(message), age, "")
        except ImageError as error:
            return Seen(None, age, f"{self._topics[camera]}: {error}")

    def _on_image(self, camera: str, message: Image) -> None:
        self._newest[camera] = (message, time.monotonic())
