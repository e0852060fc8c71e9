# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from denavit_hartenberg import franka_tool
from hypothesis import given, settings
from hypothesis import strategies as st
from serl_robots.model.kinematics import Kinematics
from serl_robots.model.pose import Pose
from serl_robots.model.robot import RobotModel, load_robot


@pytest.fixture(scope="module")
def robot() -> RobotModel:
    return load_robot("panda")


@pytest.fixture(scope="module")
def kinematics(robot: RobotModel) -> Kinematics:
    return Kinematics(robot)


@settings(max_examples=200, deadline=None)
@given(share=st.tuples(*[st.floats(0.0, 1.0)] * 7))
def test_the_tool_is_where_an_independent_chain_puts_it(kinematics: Kinematics, share: tuple[float, ...]) -> None:
    q = kinematics.lower + np.array(share) * (kinematics.upper - kinematics.lower)
    assert np.allclose(kinematics.tcp(q).matrix(), franka_tool(q), rtol=0.0, atol=1e-9)


def test_known_poses_of_the_panda(kinematics: Kinematics, robot: RobotModel) -> None:
    ready = kinematics.tcp(robot.configuration("ready"))
    assert ready.position == pytest.approx([0.3069, 0.0, 0.4869], abs=1e-4)
    assert ready.angle(Pose((0.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0))) < 1e-9
    assert kinematics.tcp(np.zeros(7)).position == pytest.approx([0.088, 0.0, 0.8226], abs=1e-4)


def test_every_named_configuration_is_within_the_joint_limits_with_the_tool_down(
    kinematics: Kinematics, robot: RobotModel
) -> None:
    for name in robot.named_configurations:
        q = np.array(robot.configuration(name))
        assert np.all(q >= kinematics.lower + 0.1) and np.all(q <= kinematics.upper - 0.1), name
        assert kinematics.tcp(q).angle(Pose((0.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0))) < 1e-4, name


def test_limits_are_those_of_the_data_sheet(kinematics: Kinematics) -> None:
    assert kinematics.lower == pytest.approx([-2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973])
    assert kinematics.upper == pytest.approx([2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973])
    assert kinematics.velocity == pytest.approx([2.175] * 4 + [2.61] * 3)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_velocity_is_the_derivative_of_the_pose(kinematics: Kinematics, seed: int) -> None:
    rng = np.random.default_rng(seed)
    q, dq = rng.uniform(kinematics.lower, kinematics.upper), rng.uniform(-1.0, 1.0, 7)
    h = 1e-5
    before, after = kinematics.tcp(q - h * dq), kinematics.tcp(q + h * dq)
    velocity = kinematics.tcp_velocity(q, dq)
    assert np.allclose(velocity[:3], (after.position - before.position) / (2 * h), atol=1e-6)
    assert np.allclose(velocity[3:], before.rotation_vector_to(after) / (2 * h), atol=1e-6)


def test_pose_and_velocity_together_are_the_same_numbers(kinematics: Kinematics, robot: RobotModel) -> None:
    q, dq = np.array(robot.configuration("ready")), np.linspace(-1.0, 1.0, 7)
    pose, velocity = kinematics.tcp_state(q, dq)
    assert pose == kinematics.tcp(q)
    assert np.array_equal(velocity, kinematics.tcp_velocity(q, dq))
