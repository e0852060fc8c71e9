# SPDX-License-Identifier: Apache-2.0
"""One camera's topics, under the names of realsense2_camera and image_transport."""

import numpy as np
from builtin_interfaces.msg import Time
from numpy.typing import NDArray
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from serl_ros.images import compressed_message, image_message
from serl_ros.qos import RELIABLE_1


class CameraPublisher:
    """Publishes `<camera>/color/image_raw`, `.../image_raw/compressed` (JPEG) and `<camera>/color/camera_info`.

    A message is made only for a topic that somebody subscribes to.
    """

    def __init__(self, node: Node, camera: str, *, jpeg_quality: int = 95) -> None:
        """Make the publishers of `node`; `jpeg_quality` is 1 to 100."""
        self._jpeg_quality = jpeg_quality
        self._images = node.create_publisher(Image, f"{camera}/color/image_raw", RELIABLE_1)
        self._jpegs = node.create_publisher(CompressedImage, f"{camera}/color/image_raw/compressed", RELIABLE_1)
        self._infos = node.create_publisher(CameraInfo, f"{camera}/color/camera_info", RELIABLE_1)
        self._served = 0

    def is_wanted(self) -> bool:
        """Whether anybody subscribes to any of the topics."""
        return any(publisher.get_subscription_count() for publisher in (self._images, self._jpegs, self._infos))

    def has_newcomers(self) -> bool:
        """Whether somebody has subscribed since the last call."""
        publishers = (self._images, self._jpegs, self._infos)
        wanted = sum(publisher.get_subscription_count() for publisher in publishers)
        known, self._served = self._served, wanted
        return wanted > known

    def publish(self, rgb: NDArray[np.uint8], info: CameraInfo, stamp: Time) -> None:
        """Publish a picture, uint8 (H, W, 3).

        Args:
            rgb: the picture.
            info: of the camera, with the optical frame's name; gets the stamp.
            stamp: when the picture was taken.
        """
        info.header.stamp = stamp
        frame = info.header.frame_id
        if self._images.get_subscription_count():
            self._images.publish(image_message(rgb, stamp, frame))
        if self._jpegs.get_subscription_count():
            self._jpegs.publish(compressed_message(rgb, stamp, frame, jpeg_quality=self._jpeg_quality))
        if self._infos.get_subscription_count():
            self._infos.publish(info)
