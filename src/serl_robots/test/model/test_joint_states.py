# SPDX-License-Identifier: Apache-2.0
from array import array
from types import SimpleNamespace

import pytest
from serl_robots.model.joint_states import JointStateError, JointStateReader
from serl_robots.model.kinematics import Kinematics
from serl_robots.model.robot import load_robot


def message(names: list[str], positions: list[float], velocities: list[float] | None = None) -> SimpleNamespace:
    speeds = [0.1 * value for value in positions] if velocities is None else velocities
    efforts = array("d", [2.0 * value for value in positions])
    return SimpleNamespace(name=names, position=array("d", positions), velocity=array("d", speeds), effort=efforts)


ROBOT = load_robot("panda")
KINEMATICS = Kinematics(ROBOT)
NAMES = list(ROBOT.joints)
VALUES = [0.1, 0.2, 0.3, -0.4, 0.5, 0.6, 0.7, 0.01, 0.02]


def test_joints_are_read_in_the_robot_s_order_whatever_the_message_s() -> None:
    reader = JointStateReader(ROBOT, KINEMATICS)
    plain = reader.read(message(NAMES, VALUES))
    assert plain.positions.tolist() == VALUES[:7]
    assert plain.gripper_width == pytest.approx(0.03)
    mixed = reader.read(message([*reversed(NAMES), "wheel"], [*reversed(VALUES), 9.0]))
    assert mixed.positions.tolist() == plain.positions.tolist()
    assert mixed.velocities.tolist() == plain.velocities.tolist()
    assert mixed.gripper_width == plain.gripper_width


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (message(NAMES[1:], VALUES[1:]), "joints panda_joint1 are missing"),
        (message([], []), "are missing; found none"),
        (message(NAMES, VALUES[:-1]), "9 joints, found 8 positions"),
        (message(NAMES, VALUES, []), "0 velocities"),
        (message(NAMES, [float("nan"), *VALUES[1:]]), "expected finite values"),
        (message(NAMES, VALUES, [float("inf"), *VALUES[1:]]), "expected finite values"),
        (message(NAMES, [*VALUES[:8], 1.0]), r"at most 0.08 m .*found 1.01 m"),
        (message(NAMES, [*VALUES[:8], -1e308]), "found -1e"),
        (message(NAMES, [0.1, 2.5, *VALUES[2:]]), r"joint panda_joint2 in \[-1.96, 1.96\] rad, found 2.5"),
    ],
)
def test_a_message_that_does_not_tell_where_the_arm_is_is_refused(bad: SimpleNamespace, said: str) -> None:
    with pytest.raises(JointStateError, match=said):
        JointStateReader(ROBOT, KINEMATICS).read(bad)
