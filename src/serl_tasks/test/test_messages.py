# SPDX-License-Identifier: Apache-2.0
from types import SimpleNamespace

import numpy as np
import pytest
from serl_robots.pose import PoseError
from serl_tasks.messages import arm_sample, nanoseconds, object_poses, pose_from_message


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
        tcp_velocity=message(linear=vector(1.0, 2.0, 3.0), angular=vector(4.0, 5.0, 6.0)),
        gripper_width=0.07,
        gripper_target=0.08,
    )
    sample = arm_sample(state)
    np.testing.assert_array_equal(sample.tcp.position, [0.5, 0.1, 0.2])
    np.testing.assert_array_equal(sample.tcp.quaternion, [1.0, 0.0, 0.0, 0.0])
    np.testing.assert_array_equal(sample.tcp_velocity, [1, 2, 3, 4, 5, 6])
    assert (sample.gripper_width, sample.gripper_target) == (0.07, 0.08)


def test_a_world_state_becomes_poses_by_name():
    poses = object_poses(message(names=["tcp", "cube"], poses=[pose(1.0, 0.0, 0.0), pose(2.0, 0.0, 0.0)]))
    assert {name: found.position[0] for name, found in poses.items()} == {"tcp": 1.0, "cube": 2.0}
    with pytest.raises(ValueError, match="zip"):
        object_poses(message(names=["tcp", "cube"], poses=[pose(1.0, 0.0, 0.0)]))


@pytest.mark.parametrize("bad", [pose(float("nan"), 0.0, 0.0), pose(0.0, 0.0, 0.0, (0.0, 0.0, 0.0, 0.0))])
def test_a_pose_that_is_none_is_refused(bad):
    with pytest.raises(PoseError):
        pose_from_message(bad)


def test_stamps_are_integers():
    assert nanoseconds(message(sec=2, nanosec=1)) == 2_000_000_001
