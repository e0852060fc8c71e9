# SPDX-License-Identifier: Apache-2.0
"""Whatever is asked of the joints: their limits and those of the tool hold, and a stop brakes."""

import math
from dataclasses import dataclass, field

import numpy as np
import pytest
from controller_rig import panda
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from serl_robots.safety.filter import SafetyFilter
from serl_robots.safety.joint_filter import JointFilter
from serl_robots.safety.limits import LIMIT_NAMES, SafetyLimits
from urdf_points import UrdfPoints, outside

PERIOD = 0.1
HOME = np.array(panda()[0].configuration("home"))
LIMITS = SafetyLimits(
    workspace_min=(0.25, -0.4, 0.02),
    workspace_max=(0.75, 0.4, 0.75),
    min_gripper_width=0.0,
    max_gripper_width=0.08,
    max_step=0.05,
    max_velocity=0.5,
    max_acceleration=10.0,
    max_rotation_step=0.2,
    max_angular_velocity=2.0,
    max_angular_acceleration=20.0,
)


@st.composite
def joint_limits(draw: st.DrawFn) -> SafetyLimits:
    """From careful to wide, with the home pose inside the box or outside of it."""
    x, y, z = panda()[1].tcp(HOME).position.tolist()
    size = draw(st.tuples(*[st.floats(0.01, 0.4)] * 3))
    off = draw(st.sampled_from([0.0, 0.0, 0.05]))
    return SafetyLimits(
        workspace_min=(x - size[0] + off, y - size[1], z - size[2]),
        workspace_max=(x + size[0] + off + 0.1, y + size[1], z + size[2]),
        min_gripper_width=0.0,
        max_gripper_width=0.08,
        orientation_cone=draw(st.floats(0.02, 1.5)),
        max_step=draw(st.floats(2e-3, 0.05)),
        max_velocity=draw(st.floats(0.02, 1.0)),
        max_acceleration=draw(st.floats(0.1, 15.0)),
        max_rotation_step=draw(st.floats(0.01, 0.5)),
        max_angular_velocity=draw(st.floats(0.05, 3.0)),
        max_angular_acceleration=draw(st.floats(0.1, 30.0)),
        joint_margin=draw(st.floats(0.0, 0.3)),
        max_joint_step=draw(st.floats(5e-3, 0.5)),
        joint_velocity_scaling=draw(st.floats(0.05, 1.0)),
        joint_acceleration=draw(st.floats(0.2, 20.0)),
        keep_out=draw(st.sampled_from([(), (x + 0.03, y - 0.2, 0.0, x + 0.05, y + 0.2, 1.0)])),
        keep_out_distance=draw(st.sampled_from([0.0, 0.02, 0.05])),
    )


@dataclass
class Watch:
    """Differences of commanded joint positions and of the tool poses that they lead to, with scipy's rotations."""

    limits: SafetyLimits
    period: float
    positions: np.ndarray
    velocity: np.ndarray = field(default_factory=lambda: np.zeros(7))
    linear: np.ndarray = field(default_factory=lambda: np.zeros(3))
    turn: np.ndarray = field(default_factory=lambda: np.zeros(3))

    def tool(self, positions: np.ndarray) -> tuple[np.ndarray, Rotation]:
        pose = panda()[1].tcp(positions)
        return pose.position, Rotation.from_quat(pose.quaternion)

    def check(self, positions: np.ndarray) -> None:
        limits, period, kinematics = self.limits, self.period, panda()[1]
        lower, upper = kinematics.lower + limits.joint_margin, kinematics.upper - limits.joint_margin
        assert np.all(positions >= np.minimum(lower, self.positions) - 1e-9)
        assert np.all(positions <= np.maximum(upper, self.positions) + 1e-9)
        velocity = (positions - self.positions) / period
        assert np.all(np.abs(velocity) <= limits.joint_velocity_scaling * kinematics.velocity + 1e-8)
        assert np.all(np.abs(velocity) * period <= limits.max_joint_step + 1e-8)
        assert np.all(np.abs(velocity - self.velocity) <= limits.joint_acceleration * period + 1e-8)

        (before, turned), (now, turning) = self.tool(self.positions), self.tool(positions)
        assert np.all(now >= np.minimum(limits.workspace_min, before) - 1e-9)
        assert np.all(now <= np.maximum(limits.workspace_max, before) + 1e-9)
        if limits.keep_out:  # a wall that begins in front of the home pose
            face = limits.keep_out[0] - limits.keep_out_distance
            was = (before - np.array(limits.keep_out[:3]) + limits.keep_out_distance).min() <= 0.0
            assert now[0] <= face + 1e-9 or not was or now[2] > 1.0 or abs(now[1]) > 0.2 or before[0] > face
        reference = Rotation.from_quat(limits.reference_orientation).inv()
        angle = (turning * reference).magnitude()
        assert angle <= max(limits.orientation_cone, (turned * reference).magnitude()) + 1e-7
        linear, turn = (now - before) / period, (turning * turned.inv()).as_rotvec() / period
        assert np.linalg.norm(linear) <= min(limits.max_velocity, limits.max_step / period) + 1e-7
        assert np.linalg.norm(turn) <= min(limits.max_angular_velocity, limits.max_rotation_step / period) + 1e-6
        assert np.linalg.norm(linear - self.linear) <= limits.max_acceleration * period + 1e-7
        assert np.linalg.norm(turn - self.turn) <= limits.max_angular_acceleration * period + 1e-6
        self.positions, self.velocity, self.linear, self.turn = positions, velocity, linear, turn


def started(limits: SafetyLimits = LIMITS, positions: np.ndarray = HOME, period: float = PERIOD) -> JointFilter:
    safety = JointFilter(panda()[1], limits, period)
    safety.reset(positions, 0.04)
    return safety


@given(limits=joint_limits(), seed=st.integers(0, 2**32 - 1), period=st.sampled_from([0.02, 0.1, 0.2]))
@settings(max_examples=60, deadline=None)
def test_whatever_is_asked_the_limits_of_joints_and_tool_hold_and_a_stop_brakes(
    limits: SafetyLimits, seed: int, period: float
) -> None:
    rng = np.random.default_rng(seed)
    start = HOME + rng.uniform(-0.3, 0.3, 7)
    safety = started(limits, start, period)
    watch = Watch(limits, period, start)
    for _ in range(12):
        kind, scale = rng.integers(6), 10.0 ** rng.uniform(-3.0, 1.0)
        goal = rng.uniform(-3.0, 3.0, 7)
        for _ in range(int(rng.integers(1, 6))):
            if kind == 0:
                assert set(safety.limit(goal, 0.04).limits) <= set(LIMIT_NAMES)
            elif kind == 1:
                safety.approach(start)
            elif kind == 2:
                safety.limit(np.full(7, rng.choice([math.nan, math.inf])), 0.04)
            elif kind == 3:
                safety.brake()
            else:
                safety.limit(safety.target + scale * rng.choice([-1.0, 1.0], 7), 0.04)
            watch.check(safety.target)
    periods = safety.braking_periods
    for left in range(periods, 0, -1):
        assert safety.braking_periods == left
        safety.brake()
        watch.check(safety.target)
        assert not safety.at_rest
    safety.brake()
    watch.check(safety.target)
    assert safety.at_rest


@given(share=st.floats(-1.0, 1.0), joint=st.integers(0, 6))
@settings(deadline=None)
def test_a_desire_within_all_limits_is_commanded_unchanged(share: float, joint: int) -> None:
    safety = started()
    desired = HOME.copy()
    desired[joint] += share * 0.02
    limited = safety.limit(desired, 0.045)
    assert np.array_equal(limited.target, desired)
    assert limited.gripper_width == 0.045
    assert limited.limits == ()


@pytest.mark.parametrize(
    ("change", "delta", "name"),
    [
        ({}, (0.0, 0.0, 0.0, 0.0, 9.0, 0.0, 0.0), "joint_limits"),
        ({"max_joint_step": 0.05}, (0.0, 0.0, 0.0, 0.0, 0.08, 0.0, 0.0), "joint_step"),
        ({}, (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.15), "joint_velocity"),
        ({}, (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.09), "joint_acceleration"),
        ({"joint_acceleration": 20.0}, (0.11, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0), "velocity"),
        ({"max_step": 0.005}, (0.02, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0), "step"),
        ({"max_acceleration": 0.5}, (0.02, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0), "acceleration"),
        ({"max_rotation_step": 0.01}, (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.02), "rotation_step"),
        ({"max_angular_velocity": 0.1}, (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.02), "angular_velocity"),
        ({"max_angular_acceleration": 1.0}, (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.02), "angular_acceleration"),
        ({"workspace_max": (0.75, 0.002, 0.75)}, (0.02, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0), "workspace"),
        ({"keep_out": (0.3, 0.022, 0.0, 0.7, 0.1, 0.7)}, (0.02, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0), "keep_out"),
        ({"orientation_cone": 0.01}, (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.02), "orientation"),
        ({}, (math.nan, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0), "finite"),
    ],
)
def test_each_limit_names_itself(change: dict, delta: tuple, name: str) -> None:
    limits = SafetyLimits(**{**{f: getattr(LIMITS, f) for f in LIMITS.__dataclass_fields__}, **change})
    assert name in started(limits).limit(HOME + delta, 0.04).limits


def test_a_steady_push_stops_at_the_end_of_a_joint_and_the_other_joints_go_on() -> None:
    upper = panda()[1].upper - LIMITS.joint_margin
    start = HOME.copy()
    start[6] = upper[6] - 0.2
    orientation = tuple(panda()[1].tcp(start).quaternion.tolist())
    values = {f: getattr(LIMITS, f) for f in LIMITS.__dataclass_fields__}
    safety = started(SafetyLimits(**{**values, "reference_orientation": orientation}), start)
    for _ in range(20):
        safety.limit(safety.target + np.array([-0.01, 0.0, 0.0, 0.0, 0.0, 0.0, 0.05]), 0.04)
        assert safety.target[6] <= upper[6] + 1e-12
    assert safety.target[6] == pytest.approx(upper[6], abs=1e-6)
    assert safety.target[0] == pytest.approx(start[0] - 20 * 0.01, abs=0.01), "all but what speeding up took"


def test_an_elbow_that_is_pushed_against_a_box_stops_before_it_and_comes_back() -> None:
    robot = panda()[0]
    shapes, box = UrdfPoints(robot, 200), np.array((-0.2, 0.16, 0.3, 0.3, 0.2, 1.0))
    values = {f: getattr(LIMITS, f) for f in LIMITS.__dataclass_fields__}
    safety = started(SafetyLimits(**{**values, "keep_out": tuple(box.tolist()), "orientation_cone": 1.5}))

    def gap() -> float:
        return outside(shapes.at(dict(zip(robot.arm_joints, safety.target.tolist(), strict=True))), box)

    direction = np.array([0.0, 0.0, 0.05, 0.0, -0.02, 0.0, 0.0])  # the elbow swings out
    named: set[str] = set()
    before = gap()
    assert before > 0.03
    for _ in range(60):
        named.update(safety.limit(safety.target + direction, 0.04).limits)
        assert gap() > LIMITS.keep_out_link_distance - 1e-6
    assert "keep_out" in named and safety.at_rest
    assert gap() < 0.03 < np.linalg.norm(np.maximum(box[:3] - safety.tool.position, 0.0)) + 0.1
    for _ in range(20):
        safety.limit(safety.target - direction, 0.04)
    assert gap() > before - 0.01


def test_approaching_a_goal_ends_there_without_going_past_it() -> None:
    values = {f: getattr(LIMITS, f) for f in LIMITS.__dataclass_fields__}
    safety = started(SafetyLimits(**{**values, "joint_acceleration": 0.5, "orientation_cone": 1.0}))
    goal = HOME + np.array([0.1, -0.05, 0.1, 0.02, 0.0, 0.05, -0.1])
    low, high = np.minimum(HOME, goal), np.maximum(HOME, goal)
    for _ in range(200):
        safety.approach(goal)
        assert np.all(safety.target >= low - 1e-12) and np.all(safety.target <= high + 1e-12)
        if safety.at_rest:
            break
    assert safety.target == pytest.approx(goal, abs=1e-9)


def test_both_filters_have_the_same_face() -> None:
    assert issubclass(JointFilter, SafetyFilter)
    with pytest.raises(RuntimeError, match="reset"):
        JointFilter(panda()[1], LIMITS, PERIOD).limit(HOME, 0.04)
    with pytest.raises(RuntimeError, match="reset"):
        JointFilter(panda()[1], LIMITS, PERIOD).brake()
    with pytest.raises(ValueError, match="7 finite joint positions"):
        JointFilter(panda()[1], LIMITS, PERIOD).reset(HOME[:6], 0.04)


@pytest.mark.parametrize("period", [0.0, -0.1, math.nan, math.inf])
def test_a_control_period_that_is_not_positive_is_refused(period: float) -> None:
    with pytest.raises(ValueError, match="positive control period"):
        JointFilter(panda()[1], LIMITS, period)


def test_joints_of_a_blocked_arm_keep_their_tool_within_the_reference_error() -> None:
    values = {f: getattr(LIMITS, f) for f in LIMITS.__dataclass_fields__}
    safety, blocked = started(SafetyLimits(**{**values, "max_reference_error": 0.03})), panda()[1].tcp(HOME)
    named: set[str] = set()
    for _ in range(30):
        safety.see(blocked)
        named |= {*safety.limit(safety.target + 0.02, 0.04).limits}
        assert np.abs(panda()[1].tcp(safety.target).position - blocked.position).max() <= 0.03 + 1e-9
    assert "reference_error" in named
    assert safety.at_rest
