# SPDX-License-Identifier: Apache-2.0
"""Pictures from topics: what is right arrives, and what is wrong is named."""

from __future__ import annotations

import numpy as np
import pytest
from serl_tasks.camera_view import CameraView

try:
    from builtin_interfaces.msg import Time
    from sensor_msgs.msg import CompressedImage, Image
    from serl_ros.images import compressed_message, image_message
    from serl_training.env.graph_cameras import CameraError, CameraInputs
except ImportError:
    pytest.skip("ROS 2 is not there", allow_module_level=True)

VIEWS = {"front": CameraView(size=(32, 24)), "wrist": CameraView(size=(16, 16), crop=(0.5, 0.0, 0.5, 0.5))}
PICTURE = np.arange(48 * 64 * 3, dtype=np.uint32).astype(np.uint8).reshape(48, 64, 3)


class Cameras:
    """The inputs under test, a publisher for each camera, and the local time [s], which passes when a test says so."""

    def __init__(self, ros, transport="raw", *, own_clock=True):
        self.ros = ros
        node = ros.node()
        self.now = 1000.0
        self.arrivals = 0
        self.inputs = CameraInputs(
            node, VIEWS, transport, self.arrive, own_clock=own_clock, local_time=lambda: self.now
        )
        kind, suffix = (Image, "") if transport == "raw" else (CompressedImage, "/compressed")
        self.publishers = {name: node.create_publisher(kind, f"{name}/color/image_raw{suffix}", 1) for name in VIEWS}
        ros.spin_until(lambda: all(p.get_subscription_count() for p in self.publishers.values()))

    def arrive(self):
        self.arrivals += 1

    def send(self, stamp, *names, message=None):
        message = message or image_message(PICTURE, Time(), "front")
        message.header.stamp = Time(nanosec=stamp)
        names = names or tuple(VIEWS)
        expected = self.arrivals + len(names)
        for name in names:
            self.publishers[name].publish(message)
        self.ros.spin_until(lambda: self.arrivals >= expected)


@pytest.fixture
def cameras(ros):
    return Cameras(ros)


def test_pictures_are_cropped_and_resized_as_the_task_says(cameras):
    cameras.send(1)
    pictures = cameras.inputs.pictures()
    assert {name: picture.shape for name, picture in pictures.items()} == {"front": (24, 32, 3), "wrist": (16, 16, 3)}
    np.testing.assert_array_equal(pictures["wrist"], VIEWS["wrist"].apply(PICTURE))


def test_a_state_is_complete_when_every_camera_has_its_stamp(cameras):
    assert cameras.inputs.newest_stamp() is None
    cameras.send(1, "front")
    assert not cameras.inputs.have(1)
    assert cameras.inputs.without(1) == ["wrist/color/image_raw"]
    cameras.send(1, "wrist")
    assert cameras.inputs.have(1)
    assert cameras.inputs.newest_stamp() == 1


def test_a_camera_that_falls_silent_is_named_with_its_age(cameras):
    assert "no picture yet" in cameras.inputs.stale(1.0)[0]
    cameras.send(1)
    assert cameras.inputs.are_fresh(1.0)
    cameras.now += 0.06
    cameras.send(2, "front")
    assert not cameras.inputs.are_fresh(0.05)
    (stale,) = cameras.inputs.stale(0.05)
    assert stale.startswith("wrist/color/image_raw (newest picture is 0.1 s old")


def test_a_picture_that_is_sent_again_is_no_newer(cameras):
    cameras.send(1)
    cameras.now += 0.06
    cameras.send(1)
    assert not cameras.inputs.are_fresh(0.05)


def stream(cameras, stamps, pictures):
    """Publish a picture of front for each stamp [ns], and see that each arrives."""
    for stamp, picture in zip(stamps, pictures, strict=True):
        expected = cameras.arrivals + 1
        cameras.publishers["front"].publish(image_message(picture, Time(sec=stamp // 10**9, nanosec=stamp % 10**9), ""))
        cameras.ros.spin_until(lambda expected=expected: cameras.arrivals >= expected)


NOISE = np.random.default_rng(0).integers(0, 256, (5, 48, 64, 3), np.uint8)
ODD_STAMPS = {
    "its stamps are zero": [0] * 5,
    "its stamps stand still at 7.000 s": [7 * 10**9] * 5,
    "its stamps are of another clock": [10**9 + i for i in range(5)],  # the node has that of the wall
}


@pytest.mark.parametrize("problem", ODD_STAMPS)
def test_a_driver_whose_stamps_tell_nothing_is_not_silent(cameras, problem):
    cameras.send(1, "wrist")
    moments = []
    for stamp, picture in zip(ODD_STAMPS[problem], NOISE, strict=True):
        cameras.now += 0.02
        stream(cameras, [stamp], [picture])
        assert not any("front" in topic for topic in cameras.inputs.stale(0.015))
        moments.append(cameras.inputs.stamps["front"])
    assert len(set(moments)) == 5  # each is a picture of its own for who judges it
    (said,) = cameras.inputs.problems()
    assert said.startswith(f"front/color/image_raw: {problem}")
    cameras.now += 0.06
    assert any("front" in topic for topic in cameras.inputs.stale(0.05))  # and silence is still silence
    (waiting,) = cameras.inputs.without(1)
    assert waiting.startswith(f"front/color/image_raw ({problem}")


def test_stamps_that_are_compared_with_each_other_alone_may_be_of_any_clock(ros):
    cameras = Cameras(ros, own_clock=False)
    stamps = ODD_STAMPS["its stamps are of another clock"]
    stream(cameras, stamps, NOISE)
    assert cameras.inputs.problems() == []
    assert cameras.inputs.stamps["front"] == stamps[-1]


def test_the_same_picture_with_stamps_of_zero_is_as_new_as_it_arrives(cameras):
    stream(cameras, [0, 0], [PICTURE, PICTURE])
    cameras.now += 0.06
    assert any("front" in topic for topic in cameras.inputs.stale(0.05))
    stream(cameras, [0], [PICTURE])
    assert not any("front" in topic for topic in cameras.inputs.stale(0.05))


def test_stamps_that_tell_the_time_again_are_believed_again(cameras):
    stream(cameras, [0] * 3, NOISE[:3])
    assert cameras.inputs.problems()
    now = cameras.inputs._node.get_clock().now().nanoseconds
    stream(cameras, [now], NOISE[:1])
    assert not cameras.inputs.problems()
    assert cameras.inputs.stamps["front"] == now


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"encoding": "16UC1"}, "encoding: expected rgb8, .* found '16UC1'"),
        ({"step": 10}, "step: expected at least 192"),
        ({"height": 47}, "data: expected 9024 bytes .* found 9216"),
        ({"width": 0}, "expected a picture.* found an empty one"),
    ],
)
def test_a_message_without_a_picture_is_named_with_its_topic(cameras, change, problem):
    cameras.send(1)
    message = image_message(PICTURE, Time(), "front")
    for name, value in change.items():
        setattr(message, name, value)
    cameras.send(2, "front", message=message)
    with pytest.raises(CameraError, match=f"front/color/image_raw: {problem}"):
        cameras.inputs.pictures()


def test_compressed_pictures_are_nearly_the_same(ros):
    cameras = Cameras(ros, "compressed")
    smooth = np.broadcast_to(np.linspace(0, 255, 64, dtype=np.uint8)[None, :, None], (48, 64, 3))
    message = compressed_message(np.ascontiguousarray(smooth), Time(), "front")
    for name in VIEWS:
        cameras.publishers[name].publish(message)
    ros.spin_until(lambda: cameras.inputs.newest_stamp() == 0)
    seen = cameras.inputs.pictures()["front"].astype(int)
    assert np.abs(seen - VIEWS["front"].apply(np.ascontiguousarray(smooth))).max() < 12
