# SPDX-License-Identifier: Apache-2.0
"""The node, on files in the place of a camera."""

import sys

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from serl_ros.images import rgb_from_message
from serl_ros.qos import SENSOR

CAMERA = (sys.executable, "-c", "from serl_cameras.camera_node import main; main()", "--ros-args")

try:
    from tf2_msgs.msg import TFMessage
except ImportError:
    pytest.skip("the workspace is not built", allow_module_level=True)


def parameters(**values):
    return [word for name, value in values.items() for word in ("-p", f"{name}:={value}")]


@pytest.fixture
def heard(ros):
    """What came on each topic, newest last."""
    node = ros.node()
    messages = {}

    def listen(kind, topic, qos=SENSOR):
        messages[topic] = []
        node.create_subscription(kind, topic, messages[topic].append, qos)

    listen(Image, "front/color/image_raw")
    listen(CompressedImage, "front/color/image_raw/compressed")
    listen(CameraInfo, "front/color/camera_info")
    listen(DiagnosticArray, "/diagnostics", 10)
    listen(TFMessage, "/tf_static", QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL))
    return messages


def newest_status(heard):
    found = [status for message in heard["/diagnostics"] for status in message.status]
    return found[-1] if found else None


def pictures_after_a_while(ros, heard):
    """How many have come when the camera has said once more how it is: those that were under way are there."""
    before = len(heard["/diagnostics"])
    ros.spin_until(lambda: len(heard["/diagnostics"]) > before, what="another word of the camera")
    return len(heard["front/color/image_raw"])


def test_a_camera_publishes_says_when_it_is_lost_and_comes_back(ros, processes, heard, folder, number_of):
    path = folder(10)
    process = processes.start(
        *CAMERA, "-r", "__node:=front", *parameters(source="file", path=path, framerate=60.0, fovy_deg=60.0)
    )
    ros.spin_until(lambda: all(heard.values()), what="all topics")
    image, info = heard["front/color/image_raw"][-1], heard["front/color/camera_info"][-1]
    assert image.encoding == "rgb8"
    assert image.header.frame_id == info.header.frame_id == "front_color_optical_frame"
    assert (info.width, info.height) == (64, 48)
    assert info.k[4] == pytest.approx(24 / np.tan(np.radians(30)))
    age = ros.node("clock").get_clock().now().nanoseconds - image.header.stamp.sec * 10**9 - image.header.stamp.nanosec
    assert 0 <= age < 5e9
    compressed = rgb_from_message(heard["front/color/image_raw/compressed"][-1])
    assert compressed.shape == rgb_from_message(image).shape == (48, 64, 3)
    assert 0 <= number_of(rgb_from_message(image)) < 10
    (transform,) = heard["/tf_static"][0].transforms
    assert (transform.header.frame_id, transform.child_frame_id) == ("front_link", "front_color_optical_frame")
    ros.spin_until(lambda: newest_status(heard).message == "front: running")
    assert newest_status(heard).name == "front: camera"

    for file in path.iterdir():
        file.unlink()
    ros.spin_until(lambda: "found none; next try in" in newest_status(heard).message, what="the loss")
    assert newest_status(heard).level == newest_status(heard).ERROR
    count = pictures_after_a_while(ros, heard)
    pictures_after_a_while(ros, heard)
    assert len(heard["front/color/image_raw"]) == count
    folder(10)
    ros.spin_until(lambda: len(heard["front/color/image_raw"]) > count + 5, what="pictures again")
    ros.spin_until(lambda: "running again" in process.output())
    assert process.output().count("lost:") == 1

    assert process.stop() == 0
    assert "Traceback" not in process.output()


def test_a_frozen_camera_is_named_and_nothing_is_published(ros, processes, heard, folder):
    processes.start(*CAMERA, *parameters(source="file", path=folder(1), camera_name="front", frozen_after=0.2))
    ros.spin_until(lambda: newest_status(heard) and "front: the same picture for" in newest_status(heard).message)
    count = pictures_after_a_while(ros, heard)
    assert pictures_after_a_while(ros, heard) == count


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (
            {"source": "file", "path": "/nowhere"},
            "path: expected a video file or a folder of pictures, found '/nowhere'",
        ),
        ({"source": "webcam"}, "'webcam' is not one of v4l2, realsense, file"),
        ({"min_rate": 60.0}, "'min_rate' of node 'camera': expected at most the framerate, 30 Hz, found 60 Hz"),
        ({"camera_info_url": "file:///nowhere.yaml"}, "/nowhere.yaml: cannot be read"),
    ],
)
def test_a_parameter_that_cannot_be_used_ends_the_node_with_one_line(processes, values, text):
    process = processes.start(*CAMERA, *parameters(**values))
    assert process.wait() == 2
    assert text in process.output()
    assert "Traceback" not in process.output()
