# SPDX-License-Identifier: Apache-2.0
import itertools

import numpy as np
import pytest
from serl_config.schema import ConfigError, build
from serl_planning.motion_planner import MotionPlanner
from serl_planning.way import MotionLimits, PlanningError, timed
from serl_robots.model.kinematics import Kinematics
from serl_robots.model.pose import Pose
from serl_robots.model.robot import Box, load_robot
from serl_robots.model.scene import Post, Scene, load_scene

ROBOT = load_robot("panda")
KINEMATICS = Kinematics(ROBOT)
HOME = np.array(ROBOT.configuration("home"))
TABLE = {"table": Box(lower=(-0.25, -0.5, -0.04), upper=(0.85, 0.5, 0.0))}
PILLAR = Scene(name="pillar", boxes=TABLE, posts={"pillar": Post(at=(0.5, 0.0), radius=0.04, lower=0.0, upper=0.8)})


def turned(joints, angle):
    other = joints.copy()
    other[0] += angle
    return other


def inside_pillar(q):
    """Whether a point between hand and tool is inside of the pillar, by kinematics alone."""
    tool = KINEMATICS.tcp(q)
    points = [tool.transform((0.0, 0.0, -back)) for back in np.linspace(0.0, 0.2, 9)]
    return any(np.hypot(point[0] - 0.5, point[1]) < 0.04 and point[2] < 0.8 for point in points)


def test_a_way_that_is_free_is_straight():
    planner = MotionPlanner(ROBOT, KINEMATICS, load_scene("table"))
    way = planner.plan(HOME, turned(HOME, 0.5))
    assert len(way) == 2


def test_the_tool_gets_to_a_pose_and_no_further():
    planner = MotionPlanner(ROBOT, KINEMATICS, load_scene("table"))
    goal = Pose((0.45, 0.2, 0.3), KINEMATICS.tcp(HOME).quaternion)
    end = KINEMATICS.tcp(planner.plan(HOME, goal)[-1])
    assert end.distance(goal) < 1e-3
    assert end.angle(goal) < 5e-3


def test_a_way_goes_round_a_pillar():
    pytest.importorskip("ompl", reason="./serl setup planning")
    planner = MotionPlanner(ROBOT, KINEMATICS, PILLAR)
    start, goal = turned(HOME, -0.6), turned(HOME, 0.6)
    assert any(inside_pillar(start + share * (goal - start)) for share in np.linspace(0.0, 1.0, 100)), "in the way"
    way = planner.plan(start, goal)
    np.testing.assert_allclose(way[[0, -1]], [start, goal])
    for a, b in itertools.pairwise(way):
        for share in np.linspace(0.0, 1.0, 200):
            assert not inside_pillar(a + share * (b - a))


def test_a_goal_that_is_not_free_says_what_is_in_what():
    planner = MotionPlanner(ROBOT, KINEMATICS, PILLAR)
    with pytest.raises(PlanningError, match=r"the goal is not free: \S+ is \d+ mm inside of \S+"):
        planner.plan(turned(HOME, -0.6), HOME)
    with pytest.raises(PlanningError, match="no configuration with the tool at"):
        planner.plan(turned(HOME, -0.6), Pose((0.5, 0.0, 0.3), KINEMATICS.tcp(HOME).quaternion))
    with pytest.raises(PlanningError, match="joint panda_joint1: expected a position in"):
        planner.plan(turned(HOME, -0.6), turned(HOME, 2.85))


def test_the_tool_stays_where_it_may_be():
    planner = MotionPlanner(ROBOT, KINEMATICS, load_scene("table"))
    with pytest.raises(PlanningError, match="the goal is outside of where the tool may be"):
        planner.plan(HOME, turned(HOME, 1.0), allowed=lambda pose: abs(pose.position[1]) < 0.2)


def test_times_keep_limits_of_speed_acceleration_and_jerk_and_stay_on_the_way():
    pytest.importorskip("ruckig", reason="./serl setup planning")
    way = np.array([HOME, turned(HOME, 0.8), turned(HOME, 0.8) + np.array([0.0, 0.3, 0, -0.2, 0, 0, 0])])
    period = 0.01
    limits = MotionLimits(
        velocity=0.5 * KINEMATICS.velocity,
        acceleration=2.0,
        jerk=20.0,
        tool_speed=0.25,
        tool_turn=0.8,
        tool_acceleration=2.0,
        tool_turn_acceleration=6.0,
    )
    motion = timed(way, limits, period, KINEMATICS.tcp)
    points = motion.positions
    np.testing.assert_allclose(points[[0, -1]], way[[0, -1]])
    velocity = np.diff(points, axis=0) / period
    acceleration = np.diff(velocity, axis=0) / period
    assert (np.abs(velocity) <= limits.velocity + 1e-6).all()
    assert np.abs(acceleration).max() <= limits.acceleration + 1e-6
    # the last period of a part is not a whole one, so its jerk shows in the differences as up to twice as much
    assert np.abs(np.diff(acceleration, axis=0)).max() / period <= 2.0 * limits.jerk + 1e-3
    tools = [KINEMATICS.tcp(q) for q in points]
    speeds = [a.distance(b) / period for a, b in itertools.pairwise(tools)]
    assert 0.1 < max(speeds) <= limits.tool_speed * 1.01
    first = points[np.abs(points[:, 1] - HOME[1]) < 1e-12]  # on the first part only one joint moves
    assert len(first) > 50
    assert motion.duration == pytest.approx(period * (len(points) - 1))


def test_a_scene_that_is_none_names_what_is_wrong():
    with pytest.raises(ConfigError, match=r"unknown scene 'tabel'.*table"):
        load_scene("tabel")
    with pytest.raises(ValueError, match="expected lower below upper"):
        Box(lower=(0.0, 0.0, 0.0), upper=(1.0, 0.0, 1.0))
    twice = {"name": "twice", "boxes": {"a": {"lower": [0, 0, 0], "upper": [1, 1, 1]}}}
    twice["posts"] = {"a": {"at": [0, 0], "radius": 0.1, "lower": 0, "upper": 1}}
    with pytest.raises(ConfigError, match="expected each name once, found a"):
        build(Scene, twice, "twice.yaml")
