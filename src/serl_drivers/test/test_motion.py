# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from serl_drivers.motion import Clamp, ToolMotion
from serl_planning.inverse_kinematics import InverseKinematics
from serl_robots.model.kinematics import Kinematics
from serl_robots.model.pose import Pose, quaternion_exp, quaternion_multiply
from serl_robots.model.robot import load_robot

LOWER, UPPER, SPEED = np.array([-1.0, -2.0]), np.array([1.0, 0.5]), np.array([1.0, 3.0])
CLAMP = Clamp(LOWER, UPPER, SPEED, narrowest=0.0, widest=0.08, gripper_speed=0.1)
angle = st.floats(-4.0, 4.0)
joints = st.tuples(angle, angle).map(np.array)


@given(wanted=joints, last=joints, period=st.floats(1e-3, 0.1))
def test_no_target_is_too_fast_or_further_beyond_a_limit_than_the_one_before(wanted, last, period) -> None:
    target = CLAMP.joints(wanted, last, period)
    assert (np.abs(target - last) <= SPEED * period * (1 + 1e-9)).all()
    assert (target <= np.maximum(UPPER, last) + 1e-12).all() and (target >= np.minimum(LOWER, last) - 1e-12).all()


@given(share=st.tuples(st.floats(0, 1), st.floats(0, 1)).map(np.array), way=st.floats(-0.99, 0.99))
def test_what_keeps_the_limits_is_not_changed(share, way) -> None:
    last = LOWER + share * (UPPER - LOWER)
    wanted = np.clip(last + way * SPEED * 0.01, LOWER, UPPER)
    assert np.array_equal(CLAMP.joints(wanted, last, 0.01), last + (wanted - last))


@given(wanted=st.floats(-1.0, 1.0), last=st.floats(0.0, 0.08))
def test_the_gripper_goes_no_faster_and_no_wider_than_it_may(wanted: float, last: float) -> None:
    width = CLAMP.width(wanted, last, 0.1)
    assert abs(width - last) <= 0.01 + 1e-12
    assert -1e-12 <= width <= 0.08 + 1e-12


def test_a_tool_motion_is_straight_and_turns_evenly() -> None:
    start = Pose((0.4, 0.0, 0.2), (1.0, 0.0, 0.0, 0.0))
    goal = Pose((0.5, 0.1, 0.2), quaternion_multiply(quaternion_exp((0.0, 0.0, 0.6)), (1.0, 0.0, 0.0, 0.0)))
    robot = load_robot("panda")
    motion = ToolMotion(InverseKinematics(robot, Kinematics(robot), 0.01), start, goal, begins=2.0, ends=2.1)
    middle = motion.pose(2.05)
    assert middle.position.tolist() == pytest.approx([0.45, 0.05, 0.2])
    assert start.angle(middle) == pytest.approx(0.3) == pytest.approx(middle.angle(goal))
    assert motion.pose(1.0) == start and motion.pose(9.0) is goal
