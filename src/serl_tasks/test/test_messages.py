# SPDX-License-Identifier: Apache-2.0
import math
from types import SimpleNamespace

import numpy as np
import pytest
from serl_tasks.messages import (
    MessageError,
    arm_sample,
    metric_values,
    nanoseconds,
    object_poses,
    pose_from_message,
    wrench_values,
)


def message(**fields):
    return SimpleNamespace(**fields)


def vector(x, y, z):
    return message(x=x, y=y, z=z)


def pose(x, y, z, quaternion=(1.0, 0.0, 0.0, 0.0)):
    qx, qy, qz, qw = quaternion
    return message(position=vector(x, y, z), orientation=message(x=qx, y=qy, z=qz, w=qw))


def test_an_arm_state_becomes_a_sample():
    state = message(
        tcp_pose=pose(0.5, 0.1, 0.2),
        target_pose=pose(0.5, 0.1, 0.19),
        tcp_velocity=message(linear=vector(1.0, 2.0, 3.0), angular=vector(4.0, 5.0, 6.0)),
        gripper_width=0.07,
        gripper_target=0.08,
        joint_positions=[0.1, 0.2],
        joint_velocities=[0.3, 0.4],
    )
    sample = arm_sample(state)
    np.testing.assert_array_equal(sample.tcp.position, [0.5, 0.1, 0.2])
    np.testing.assert_array_equal(sample.tcp.quaternion, [1.0, 0.0, 0.0, 0.0])
    np.testing.assert_array_equal(sample.commanded.position, [0.5, 0.1, 0.19])
    np.testing.assert_array_equal([*sample.joint_positions, *sample.joint_velocities], [0.1, 0.2, 0.3, 0.4])
    np.testing.assert_array_equal(sample.tcp_velocity, [1, 2, 3, 4, 5, 6])
    assert (sample.gripper_width, sample.gripper_target) == (0.07, 0.08)


def test_a_world_state_becomes_poses_by_name():
    poses = object_poses(message(names=["tcp", "cube"], poses=[pose(1.0, 0.0, 0.0), pose(2.0, 0.0, 0.0)]))
    assert {name: found.position[0] for name, found in poses.items()} == {"tcp": 1.0, "cube": 2.0}
    with pytest.raises(MessageError, match="found 2 and 1"):
        object_poses(message(names=["tcp", "cube"], poses=[pose(1.0, 0.0, 0.0)]))


@pytest.mark.parametrize("bad", [pose(float("nan"), 0.0, 0.0), pose(0.0, 0.0, 0.0, (0.0, 0.0, 0.0, 0.0))])
def test_a_pose_that_is_none_is_refused(bad):
    with pytest.raises(MessageError):
        pose_from_message(bad)


def test_stamps_are_integers():
    assert nanoseconds(message(sec=2, nanosec=1)) == 2_000_000_001


@pytest.mark.parametrize(("sec", "nanosec"), [(-1, 0), (-(2**31), 5), (0, 1_000_000_000), (2**31 - 1, 2**32 - 1)])
def test_a_stamp_that_is_none_is_refused(sec, nanosec):
    with pytest.raises(MessageError, match="stamp: expected sec from 0"):
        nanoseconds(message(sec=sec, nanosec=nanosec))


@pytest.mark.parametrize("far", [math.inf, -math.inf, math.nan, 1e308, -3e38, 1001.0])
def test_a_pose_that_no_arm_reaches_is_refused(far):
    with pytest.raises(MessageError, match="tcp_pose: "):
        pose_from_message(pose(0.0, far, 0.0), "tcp_pose")


def test_names_of_a_world_state_are_there_once_and_all_that_are_needed():
    poses = [pose(1.0, 0.0, 0.0), pose(2.0, 0.0, 0.0)]
    with pytest.raises(MessageError, match="each once"):
        object_poses(message(names=["cube", "cube"], poses=poses))
    with pytest.raises(MessageError, match="expected cube among them, found tcp, ball"):
        object_poses(message(names=["tcp", "ball"], poses=poses), ["tcp", "cube"])


def metrics(names=("a", "b"), values=(1.0, math.nan), node="learner", env_steps=3):
    return message(names=list(names), values=list(values), node=node, env_steps=env_steps)


def test_metrics_have_a_value_for_each_name():
    assert metric_values(metrics())["a"] == 1.0
    for bad in (
        metrics(values=[1.0]),
        metrics(names=["a", "b\n"]),
        metrics(names=["a", "b" * 201]),
        metrics(node="\x1b[31m"),
        metrics(env_steps=2**64 - 1),
        metrics(names=["a"] * 1001, values=[0.0] * 1001),
    ):
        with pytest.raises(MessageError):
            metric_values(bad)


def wrench(x=1.0, frame="left/hand_tcp"):
    return message(
        header=message(frame_id=frame), wrench=message(force=vector(x, 2.0, 3.0), torque=vector(4.0, 5.0, 6.0))
    )


def test_a_wrench_is_one_of_the_frame_of_the_tool():
    np.testing.assert_array_equal(wrench_values(wrench(), "hand_tcp"), [1, 2, 3, 4, 5, 6])
    for bad in (wrench(math.nan), wrench(math.inf), wrench(-1e6)):
        with pytest.raises(MessageError, match="wrench: expected numbers within"):
            wrench_values(bad, "hand_tcp")
    with pytest.raises(MessageError, match=r"frame_id: expected 'hand_tcp', the tool's, found 'link8'"):
        wrench_values(wrench(frame="link8"), "hand_tcp")
