# SPDX-License-Identifier: Apache-2.0
"""Ways with times for the arm of a task: what the arm controller's limits make of them, checked by differences."""

import itertools
import sys
from dataclasses import replace
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from serl_planning.paced_way import problem_of
from serl_planning.scene_planner import PlannerSettings, ScenePlanner
from serl_planning.way import MissingPlanner, PlanningError, TimedWay
from serl_robots.control.arm_task import load_arm_task
from serl_robots.model.kinematics import Kinematics
from serl_robots.model.pose import Pose
from serl_robots.model.robot import load_robot

ROBOT = load_robot("panda")
KINEMATICS = Kinematics(ROBOT)
HOME = np.array(ROBOT.configuration("home"))
TASK = load_arm_task("pick_cube", "table_with_posts")
POST = (0.47, -0.03, 0.0), (0.53, 0.03, 0.1)
BEHIND_POST = replace(TASK, scene="", limits=replace(TASK.limits, keep_out=(*POST[0], *POST[1])))


def planner(kind="ompl", task=TASK):
    return ScenePlanner(task, ROBOT, PlannerSettings(kind=kind))


def broken(way):
    """Limits of the task that a way breaks, by differences of its points and forward kinematics alone."""
    limits, period = TASK.limits, way.period
    points = np.vstack([way.positions[:1], way.positions, way.positions[-1:], way.positions[-1:]])
    velocity = np.diff(points, axis=0) / period
    tools = [KINEMATICS.tcp(q) for q in points]
    linear = np.array([(b.position - a.position) / period for a, b in itertools.pairwise(tools)])
    angular = np.array([a.rotation_vector_to(b) / period for a, b in itertools.pairwise(tools)])
    largest = {
        "joint velocity": (np.abs(velocity) / (limits.joint_velocity_scaling * KINEMATICS.velocity)).max(),
        "joint acceleration": np.abs(np.diff(velocity, axis=0)).max() / period / limits.joint_acceleration,
        "speed": np.linalg.norm(linear, axis=1).max() / min(limits.max_velocity, limits.max_step / period),
        "acceleration": np.linalg.norm(np.diff(linear, axis=0), axis=1).max() / period / limits.max_acceleration,
        "turn": np.linalg.norm(angular, axis=1).max()
        / min(limits.max_angular_velocity, limits.max_rotation_step / period),
        "turn acceleration": np.linalg.norm(np.diff(angular, axis=0), axis=1).max()
        / period
        / limits.max_angular_acceleration,
    }
    return {name: value for name, value in largest.items() if value > 1.0 + 1e-6}


def test_any_planned_way_keeps_the_limits_of_the_arm_controller():
    pytest.importorskip("ompl", reason="./serl setup planning")
    ways, rng = planner(), np.random.default_rng(7)
    low, high = np.array(TASK.limits.workspace_min), np.array(TASK.limits.workspace_max)
    start, reached = HOME, 0
    for _ in range(12):
        pose = Pose(rng.uniform(low, high), KINEMATICS.tcp(HOME).quaternion)
        try:
            way = ways.plan(start, pose)
        except PlanningError:
            continue
        assert broken(way) == {}
        np.testing.assert_array_equal(way.positions[0], start)
        start, reached = way.positions[-1], reached + 1
        assert KINEMATICS.tcp(start).distance(pose) < 1e-3
    assert reached >= 6


def test_a_goal_behind_a_post_is_reached_round_it_and_the_straight_way_is_refused():
    pytest.importorskip("ompl", reason="./serl setup planning")
    (low, high), task = POST, BEHIND_POST
    down = KINEMATICS.tcp(HOME).quaternion
    start = planner(task=task).plan(HOME, Pose((0.5, -0.15, 0.05), down)).positions[-1]
    behind = Pose((0.5, 0.15, 0.05), down)
    with pytest.raises(PlanningError, match="straight way is not free; launch with planner:=ompl"):
        planner("straight", task).plan(start, behind)
    way = planner(task=task).plan(start, behind)
    assert KINEMATICS.tcp(way.positions[-1]).distance(behind) < 1e-3
    for positions in way.positions:  # nothing between hand and tool is in the post, by kinematics alone
        tool = KINEMATICS.tcp(positions)
        points = np.array([tool.transform((0.0, 0.0, -back)) for back in np.linspace(0.0, 0.1, 6)])
        assert not ((points > low) & (points < high)).all(axis=1).any()


def test_goals_that_cannot_be_had_are_refused_each_with_its_reason():
    ways, down = planner("straight"), KINEMATICS.tcp(HOME).quaternion
    with pytest.raises(PlanningError, match=r"goal is outside the workspace box.*choose another"):
        ways.plan(HOME, Pose((1.5, 0.0, 0.3), down))
    with pytest.raises(PlanningError, match="goal is in a keep-out box"):
        planner("straight", BEHIND_POST).plan(HOME, Pose((0.5, 0.0, 0.05), down))
    with pytest.raises(PlanningError, match="joint panda_joint7: expected a position in"):
        ways.plan(HOME, HOME + np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 2.1]))
    inside = HOME.copy()
    inside[0] = np.arctan2(0.25, 0.45)
    inside[1] = 0.3
    with pytest.raises(PlanningError, match=r"the start is not free: \S+ is \d+ mm inside of"):
        ways.plan(inside, HOME)


def test_a_way_that_is_too_fast_is_told_by_the_filter():
    points = HOME + np.linspace(0.0, 1.0, 6)[:, None] * np.array([0.5, 0, 0, 0, 0, 0, 0])
    assert "after 0.00 s" in problem_of(TimedWay(0.1, points), KINEMATICS, TASK.limits)


class Component:
    """Plays MoveIt's component of a group: a way of ten points in the order of another joint list."""

    def __init__(self, calls):
        self.calls = calls

    def set_start_state(self, robot_state):
        self.calls["start"] = robot_state.joint_positions

    def set_goal_state(self, robot_state):
        self.calls["goal"] = robot_state.joint_positions

    def plan(self, single_plan_parameters):
        scaling = single_plan_parameters.max_velocity_scaling_factor
        self.calls.setdefault("scalings", []).append(scaling)
        names = list(reversed(ROBOT.arm_joints))
        start = np.array([self.calls["start"][name] for name in names])
        goal = np.array([self.calls["goal"][name] for name in names])
        share = 0.5 - 0.5 * np.cos(np.linspace(0.0, np.pi, 41))
        times = np.linspace(0.0, 2.0, 41) / scaling
        points = [
            SimpleNamespace(
                positions=(start + s * (goal - start)).tolist(),
                time_from_start=SimpleNamespace(sec=int(t), nanosec=round((t % 1.0) * 1e9)),
            )
            for s, t in zip(share, times, strict=True)
        ]
        trajectory = SimpleNamespace(joint_trajectory=SimpleNamespace(joint_names=names, points=points))
        return SimpleNamespace(trajectory=SimpleNamespace(get_robot_trajectory_msg=lambda: trajectory))


def test_moveit_plans_where_it_is_installed_and_is_named_where_it_is_not(monkeypatch):
    goal = HOME + np.array([0.1, 0, 0, 0, 0, 0, 0])  # farther the hand touches a post
    with pytest.raises(MissingPlanner, match=r"planner:=moveit needs moveit\.planning: install ros-"):
        planner("moveit").plan(HOME, goal)
    calls: dict = {}
    state = type("RobotState", (), {"__init__": lambda self, model: None, "update": lambda self: None})
    moveit = SimpleNamespace(
        get_planning_component=lambda group: calls.update(group=group) or Component(calls),
        get_robot_model=lambda: "model",
        shutdown=lambda: calls.update(shutdown=True),
    )
    planning = ModuleType("moveit.planning")
    planning.MoveItPy = lambda node_name: moveit
    planning.PlanRequestParameters = lambda moveit, namespace: SimpleNamespace()
    states = ModuleType("moveit.core.robot_state")
    states.RobotState = state
    for name, module in (("moveit.planning", planning), ("moveit.core.robot_state", states)):
        monkeypatch.setitem(sys.modules, name, module)
    ways = planner("moveit")
    way = ways.plan(HOME, goal)
    np.testing.assert_allclose(way.positions[[0, -1]], [HOME, goal])
    assert broken(way) == {}
    assert calls["group"] == "manipulator"
    assert calls["scalings"][0] == 1.0
    ways.close()
    assert calls["shutdown"]


@pytest.mark.parametrize("turns", [1.0, 1e300])
def test_a_start_where_no_arm_is_is_refused_at_once(turns):
    start = HOME.copy()
    start[2] += 2.0 * np.pi * turns
    with pytest.raises(PlanningError, match=r"start: expected joint \S+joint3 in \[-3\.1"):
        planner("straight").plan(start, HOME)
