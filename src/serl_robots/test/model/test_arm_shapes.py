# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serl_robots.model.arm_shapes import ArmShapes
from serl_robots.model.kinematics import Kinematics
from serl_robots.model.robot import RobotModel, load_robot


@pytest.fixture(params=("fr3", "so101", "piper", "trossen", "panda"), scope="module")
def arm(request: pytest.FixtureRequest) -> tuple[RobotModel, Kinematics]:
    robot = load_robot(request.param)
    return robot, Kinematics(robot)


def anywhere(kinematics, seed):
    return np.random.default_rng(seed).uniform(kinematics.lower, kinematics.upper)


def test_the_tool_and_its_jacobian_are_those_of_the_kinematics(arm):
    robot, kinematics = arm
    shapes = ArmShapes(robot)
    for seed in range(5):
        q = anywhere(kinematics, seed)
        shapes.place(q)
        want, tcp = shapes.in_world(kinematics.tcp(q)), shapes.tcp()
        assert tcp.distance(want) < 1e-12
        assert tcp.angle(want) < 1e-7
        np.testing.assert_allclose(shapes.jacobian(), kinematics.jacobian(q), atol=1e-12)


def test_distances_grow_with_the_joints_as_finite_differences_say(arm):
    robot, kinematics = arm
    shapes = ArmShapes(robot)
    pairs = shapes.pairs([robot.configuration("ready")], 0.02)
    seen = 0
    for seed in range(40):
        q = anywhere(kinematics, seed)
        shapes.place(q)
        shapes.jacobian()
        growths = {
            (a, b): (gap, shapes.approach(a, b, at_a, at_b, gap))
            for gap, a, b, at_a, at_b in shapes.near(pairs, 0.1)
            if gap > 0.005
        }
        step = 1e-5 * np.random.default_rng(seed + 1000).normal(size=len(q))
        shapes.place(q + step)
        after = {(a, b): gap for gap, a, b, _, _ in shapes.near(pairs, 0.2)}
        shapes.place(q - step)
        before = {(a, b): gap for gap, a, b, _, _ in shapes.near(pairs, 0.2)}
        for pair, (_, growth) in growths.items():
            # second order, and the kinks where the nearest points jump from one edge to another
            assert abs(0.5 * (after[pair] - before[pair]) - growth @ step) < 2e-6
            seen += 1
    assert seen > 10


def test_every_link_of_an_arm_has_a_shape(arm):
    robot, _ = arm
    shapes = ArmShapes(robot)
    assert set(shapes.group.tolist()) == set(range(len(robot.arm_joints) + 1)), robot.name


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_no_point_of_two_links_is_nearer_than_their_distance(seed):
    robot = load_robot("so101")
    shapes = ArmShapes(robot)
    rng = np.random.default_rng(seed)
    shapes.place(rng.uniform(-1.5, 1.5, 5))
    model, data = shapes.model, shapes.data
    for gap, a, b, at_a, at_b in shapes.near(shapes.pairs([robot.configuration("ready")], 0.02), 0.1):
        corners = []
        for geom in (a, b):
            assert model.geom_type[geom] == 6, "boxes, whose corners are known"
            inside = rng.uniform(-1.0, 1.0, (200, 3)) * model.geom_size[geom]
            corners.append(inside @ data.geom_xmat[geom].reshape(3, 3).T + data.geom_xpos[geom])
        nearest = np.linalg.norm(corners[0][:, None] - corners[1][None], axis=-1).min()
        assert gap <= nearest + 1e-6
        if gap > 0.0:
            assert abs(np.linalg.norm(at_a - at_b) - gap) < 1e-6
