# SPDX-License-Identifier: Apache-2.0
"""The node that records topics as they are: every message, read by rosbags, also of a recorder that was killed."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from sensor_msgs.msg import CameraInfo, JointState
from serl_recording.raw_bag import reindex
from serl_ros.camera_publisher import CameraPublisher
from serl_ros.qos import LATCHED, RELIABLE_10
from std_msgs.msg import String

pytest.importorskip("mcap", reason="./serl setup recordings")
pytest.importorskip("rosbags", reason="./serl setup recordings")
pytestmark = pytest.mark.graph

COUNT = 60


def read(folder: Path) -> dict[str, list[Any]]:
    """The messages of each topic, in the order in which they came."""
    from rosbags.highlevel import AnyReader

    found: dict[str, list[Any]] = {}
    with AnyReader([folder]) as reader:
        for connection, _, data in reader.messages():
            found.setdefault(connection.topic, []).append(reader.deserialize(data, connection.msgtype))
    return found


@pytest.mark.parametrize("killed", [False, True], ids=["ended", "killed"])
def test_every_message_is_recorded(ros: Any, processes: Any, tmp_path: Path, killed: bool) -> None:
    folder = tmp_path / "bag"
    node = ros.node()
    words, states = (
        node.create_publisher(String, "word", LATCHED),
        node.create_publisher(JointState, "s", RELIABLE_10),
    )
    camera = CameraPublisher(node, "front")
    words.publish(String(data="latched, before anybody listened"))
    command = (sys.executable, "-c", "from serl_training.raw_recorder_node import main; main()")
    recorder = processes.start(*command, "--ros-args", "-p", f"folder:={folder}")
    ros.spin_until(lambda: camera.is_wanted() and states.get_subscription_count(), 60.0, "the recorder")
    pictures = np.random.default_rng(0).integers(0, 256, (COUNT, 48, 64, 3), dtype=np.uint8)
    for index in range(COUNT):
        camera.publish(pictures[index], CameraInfo(), Time(sec=index))
        states.publish(JointState(position=[float(index)]))
        ros.executor.spin_once(timeout_sec=0.01)

    if killed:
        # The last message is large, so that it shows in the size of the file when it is there.
        states.publish(JointState(position=[float(COUNT)] * 2**18))
        file = folder / "bag_0.mcap"
        ros.spin_until(lambda: file.stat().st_size > 2**21, 30.0, "the last message in the file")
        recorder.send(signal.SIGKILL)
        recorder.wait(30.0)
        done = reindex(folder)
        assert done.mended == ["bag_0.mcap"]
        assert not done.damaged
    else:
        recorder.send(signal.SIGINT)
        assert recorder.wait(30.0) == 0, recorder.output()
        assert "0 dropped" in recorder.output()
    found = read(folder)
    assert [message.data for message in found["/word"]] == ["latched, before anybody listened"]
    assert [message.position[0] for message in found["/s"]] == [float(index) for index in range(COUNT + killed)]
    stamps = [message.header.stamp.sec for message in found["/front/color/image_raw/compressed"]]
    assert stamps == list(range(COUNT))
    assert "/front/color/image_raw" not in found
