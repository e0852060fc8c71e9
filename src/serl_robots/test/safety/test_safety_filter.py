# SPDX-License-Identifier: Apache-2.0
import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from serl_robots.model.pose import Pose
from serl_robots.safety.filter import Limited
from serl_robots.safety.limits import LIMIT_NAMES, LIMIT_WORDS, SafetyLimits
from serl_robots.safety.tool_filter import ToolFilter
from serl_robots.safety.tool_target import ToolTarget

PERIOD = 0.1
LIMITS = SafetyLimits(
    workspace_min=(0.3, -0.2, 0.0),
    workspace_max=(0.6, 0.2, 0.3),
    min_gripper_width=0.0,
    max_gripper_width=0.08,
    max_step=0.04,
    max_velocity=0.5,
    max_acceleration=1.0,
    max_rotation_step=0.2,
    max_angular_velocity=1.5,
    max_angular_acceleration=3.0,
)
DOWN = (1.0, 0.0, 0.0, 0.0)
CENTRE = (0.45, 0.0, 0.15)
SLACK = 1e-8

weird = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True),
    st.floats(-1.0, 1.0),
    st.sampled_from([math.nan, math.inf, -math.inf, 1e308, -1e308, 5e-324, 0.0]),
)


@st.composite
def filter_limits(draw: st.DrawFn) -> SafetyLimits:
    low = draw(st.tuples(*[st.floats(-0.5, 0.4)] * 3))
    size = draw(st.tuples(*[st.floats(1e-3, 0.5)] * 3))
    reference = Rotation.from_rotvec(draw(st.tuples(*[st.floats(-3.0, 3.0)] * 3))).as_quat()
    return SafetyLimits(
        workspace_min=low,
        workspace_max=tuple(a + b for a, b in zip(low, size, strict=True)),
        min_gripper_width=0.0,
        max_gripper_width=0.08,
        reference_orientation=tuple(reference),
        orientation_cone=draw(st.floats(0.01, 1.57)),
        max_step=draw(st.floats(1e-3, 0.05)),
        max_velocity=draw(st.floats(0.01, 2.0)),
        max_acceleration=draw(st.floats(0.1, 15.0)),
        max_rotation_step=draw(st.floats(0.01, 0.5)),
        max_angular_velocity=draw(st.floats(0.05, 3.0)),
        max_angular_acceleration=draw(st.floats(0.1, 30.0)),
        max_gripper_velocity=draw(st.floats(0.01, 2.0)),
        keep_out=tuple(draw(keep_out_boxes(low, size))),
        keep_out_distance=draw(st.sampled_from([0.0, 0.003, 0.05])),
    )


@st.composite
def keep_out_boxes(draw: st.DrawFn, low: tuple, size: tuple) -> list[float]:
    """None to three boxes in and about the workspace, thinner than a step or thicker, one in the other or beside it."""
    numbers: list[float] = []
    for _ in range(draw(st.integers(0, 3))):
        corner = [a + b * draw(st.floats(-0.3, 1.0)) for a, b in zip(low, size, strict=True)]
        extent = [max(b * draw(st.sampled_from([0.02, 0.2, 0.5])), 1e-4) for b in size]
        numbers += [*corner, *(a + b for a, b in zip(corner, extent, strict=True))]
    return numbers


def depth(limits: SafetyLimits, position: np.ndarray) -> np.ndarray:
    """How deep a position (3,) is in each keep-out box [m], below its nearest face; 0 outside."""
    around = np.array([[-limits.keep_out_distance], [limits.keep_out_distance]])
    boxes = np.reshape(limits.keep_out, (-1, 2, 3)) + around
    faces = np.concatenate([position - boxes[:, 0], boxes[:, 1] - position], axis=1)
    return faces.min(axis=1, initial=np.inf).clip(0.0)


@st.composite
def start_poses(draw: st.DrawFn, limits: SafetyLimits) -> Pose:
    """Inside the box, on its faces, or outside of it; within the cone or anywhere."""
    position = []
    for low, high in zip(limits.workspace_min, limits.workspace_max, strict=True):
        position.append(draw(st.one_of(st.just(low), st.just(high), st.floats(low, high), st.floats(-2.0, 2.0))))
    away = np.array(draw(st.tuples(*[st.floats(-1.0, 1.0)] * 3)))
    length = float(np.linalg.norm(away))
    reach = draw(st.one_of(st.floats(0.0, limits.orientation_cone), st.floats(0.0, math.pi)))
    turn = Rotation.from_rotvec(away / length * reach if length > 1e-3 else np.zeros(3))
    return Pose(position, (turn * Rotation.from_quat(limits.reference_orientation)).as_quat())


@dataclass
class Watch:
    """Checks commanded poses one after another with its own arithmetic (scipy's rotations, numpy)."""

    limits: SafetyLimits
    period: float
    start: Pose
    width: float

    def __post_init__(self) -> None:
        self.position = self.start.position
        self.rotation = Rotation.from_quat(self.start.quaternion)
        self.reference = Rotation.from_quat(self.limits.reference_orientation)
        self.velocity = np.zeros(3)
        self.turn = np.zeros(3)

    def angle(self, rotation: Rotation) -> float:
        return float((rotation * self.reference.inv()).magnitude())

    def check(self, result: Limited[ToolTarget]) -> None:
        limits, period = self.limits, self.period
        position = np.array(result.target.position)
        rotation = Rotation.from_quat(result.target.quaternion)
        assert np.all(np.isfinite(position)) and np.all(np.isfinite(result.target.quaternion))
        assert abs(math.hypot(*result.target.quaternion) - 1.0) < 1e-12

        # a tool inside stays inside, one outside does not get further out
        assert np.all(position >= np.minimum(limits.workspace_min, self.position) - SLACK)
        assert np.all(position <= np.maximum(limits.workspace_max, self.position) + SLACK)
        deepest = depth(limits, self.position)
        for share in np.linspace(0.0, 1.0, 11) if limits.keep_out else ():
            way = depth(limits, self.position + share * (position - self.position))
            assert np.all((way <= SLACK) | (deepest > 0.0)), "nothing is jumped over"
        assert np.all(depth(limits, position) <= deepest + SLACK), "nor does a tool inside get deeper"
        velocity = (position - self.position) / period
        assert np.linalg.norm(velocity) * period <= limits.max_step + SLACK
        assert np.linalg.norm(velocity) <= limits.max_velocity + SLACK
        assert np.linalg.norm(velocity - self.velocity) <= limits.max_acceleration * period + SLACK

        assert self.angle(rotation) <= max(limits.orientation_cone, self.angle(self.rotation)) + 1e-7
        turn = (rotation * self.rotation.inv()).as_rotvec() / period
        assert np.linalg.norm(turn) * period <= limits.max_rotation_step + SLACK
        assert np.linalg.norm(turn) <= limits.max_angular_velocity + SLACK
        assert np.linalg.norm(turn - self.turn) <= limits.max_angular_acceleration * period + 1e-6

        change = limits.max_gripper_velocity * period
        assert abs(result.gripper_width - self.width) <= change + SLACK
        low = min(limits.min_gripper_width, self.width)
        assert low - SLACK <= result.gripper_width <= max(limits.max_gripper_width, self.width) + SLACK

        self.position, self.rotation, self.width = position, rotation, result.gripper_width
        self.velocity, self.turn = velocity, turn
        assert set(result.limits) <= set(LIMIT_NAMES)


def started(limits: SafetyLimits = LIMITS, position: tuple[float, ...] = CENTRE, period: float = PERIOD) -> ToolFilter:
    safety = ToolFilter(limits, period)
    safety.reset(Pose(position, limits.reference_orientation), 0.04)
    return safety


@given(data=st.data(), period=st.floats(1e-3, 0.5))
@settings(max_examples=150, deadline=None)
def test_no_sequence_of_desires_gets_a_target_outside_any_limit(data: st.DataObject, period: float) -> None:
    limits = data.draw(filter_limits())
    start = data.draw(start_poses(limits))
    width = data.draw(st.floats(-0.01, 0.1))
    safety = ToolFilter(limits, period)
    safety.reset(start, width)
    watch = Watch(limits, period, start, width)
    reach = st.tuples(*[st.floats(-3.0, 3.0)] * 3)
    for _ in range(data.draw(st.integers(1, 25))):
        kind = data.draw(st.integers(0, 3))
        if kind == 0:  # anything at all
            position = data.draw(st.tuples(*[weird] * 3))
            quaternion = data.draw(st.tuples(*[weird] * 4))
            desired_width = data.draw(weird)
        elif kind == 1:  # where a policy would go: steps from the commanded pose
            delta = np.array(data.draw(st.tuples(*[st.floats(-1.0, 1.0)] * 3))) * limits.max_step * 1.5
            turn = Rotation.from_rotvec(np.array(data.draw(reach)) * limits.max_rotation_step)
            position = tuple((np.array(safety.position) + delta).tolist())
            quaternion = tuple((turn * Rotation.from_quat(safety.quaternion)).as_quat().tolist())
            desired_width = data.draw(st.floats(0.0, 0.08))
        elif kind == 2:  # stay
            position, quaternion, desired_width = safety.position, safety.quaternion, safety.gripper_width
        else:  # anywhere near the workspace
            position = data.draw(st.tuples(*[st.floats(-1.0, 1.0)] * 3))
            quaternion = tuple(Rotation.from_rotvec(data.draw(reach)).as_quat().tolist())
            desired_width = data.draw(st.floats(-1.0, 1.0))
        watch.check(safety.limit(ToolTarget(position, quaternion), desired_width))


@given(data=st.data(), seed=st.integers(0, 2**32 - 1), period=st.sampled_from([0.01, 0.05, 0.1]))
@settings(max_examples=60, deadline=None)
def test_limits_hold_over_long_runs_against_the_walls(data: st.DataObject, seed: int, period: float) -> None:
    limits = data.draw(filter_limits())
    start = data.draw(start_poses(limits))
    rng = np.random.default_rng(seed)
    safety = ToolFilter(limits, period)
    safety.reset(start, 0.0)
    watch = Watch(limits, period, start, 0.0)
    keep = int(rng.integers(1, 40))
    for step in range(150):
        if step % keep == 0:
            position = tuple(rng.uniform(-2.0, 2.0, 3).tolist())
            turn = Rotation.from_rotvec(rng.uniform(-1.5, 1.5, 3))
            quaternion = tuple((turn * Rotation.from_quat(safety.quaternion)).as_quat().tolist())
        watch.check(safety.limit(ToolTarget(position, quaternion), float(rng.uniform(-0.1, 0.2))))


@given(scale=st.floats(-1.0, 1.0), axis=st.integers(0, 2))
def test_a_desire_within_all_limits_is_commanded_unchanged(scale: float, axis: int) -> None:
    safety = started()
    desired = list(CENTRE)
    desired[axis] += scale * 0.0099  # 1 m/s^2 over 0.1 s from rest
    turned = (Rotation.from_rotvec([0.0, 0.0, 0.029 * scale]) * Rotation.from_quat(DOWN)).as_quat()
    result = safety.limit(ToolTarget((desired[0], desired[1], desired[2]), tuple(turned.tolist())), 0.045)
    assert result.target.position == tuple(desired)
    assert np.allclose(result.target.quaternion, turned, atol=1e-15)
    assert result.gripper_width == 0.045
    assert result.limits == ()


@pytest.mark.parametrize(
    ("change", "desire", "name"),
    [
        ({}, ((0.9, 0.0, 0.15), DOWN, 0.04), "workspace"),
        (
            {"keep_out": (0.46, -0.1, 0.1, 0.5, 0.1, 0.2), "keep_out_distance": 0.0},
            ((0.47, 0.0, 0.15), DOWN, 0.04),
            "keep_out",
        ),
        ({"max_velocity": 2.0, "max_acceleration": 15.0}, ((0.55, 0.0, 0.15), DOWN, 0.04), "step"),
        ({"max_velocity": 0.1, "max_acceleration": 15.0}, ((0.47, 0.0, 0.15), DOWN, 0.04), "velocity"),
        ({}, ((0.48, 0.0, 0.15), DOWN, 0.04), "acceleration"),
        ({}, ((math.nan, 0.0, 0.15), DOWN, 0.04), "finite"),
        ({}, (CENTRE, (math.inf, 0.0, 0.0, 0.0), 0.04), "finite"),
        ({}, (CENTRE, (0.0, 0.0, 0.0, 0.0), 0.04), "finite"),
        ({}, (CENTRE, DOWN, math.nan), "finite"),
        ({}, (CENTRE, DOWN, 0.2), "gripper"),
        ({}, (CENTRE, DOWN, -0.1), "gripper"),
        ({}, (CENTRE, DOWN, 0.08), "gripper_velocity"),
        ({}, (CENTRE, (0.0, 1.0, 0.0, 0.0), 0.04), "orientation"),
        ({}, (CENTRE, (math.cos(0.15), math.sin(0.15), 0.0, 0.0), 0.04), "rotation_step"),
        (
            {"max_angular_velocity": 0.5},
            (CENTRE, (math.cos(0.05), math.sin(0.05), 0.0, 0.0), 0.04),
            "angular_velocity",
        ),
        ({}, (CENTRE, (math.cos(0.05), math.sin(0.05), 0.0, 0.0), 0.04), "angular_acceleration"),
    ],
)
def test_each_limit_names_itself(change: dict, desire: tuple, name: str) -> None:
    limits = SafetyLimits(**{**{f: getattr(LIMITS, f) for f in LIMITS.__dataclass_fields__}, **change})
    assert name in started(limits).limit(ToolTarget(*desire[:2]), desire[2]).limits


def test_a_steady_push_at_full_speed_stops_on_the_wall_without_passing_it() -> None:
    safety = started()
    positions = [safety.limit(ToolTarget((2.0, 0.0, 0.15), DOWN), 0.04).target.position[0] for _ in range(30)]
    assert max(positions) <= 0.6
    assert positions[-1] == pytest.approx(0.6, abs=1e-6)


def test_a_tool_pushed_against_a_wall_slides_along_it() -> None:
    safety = started(position=(0.6, 0.0, 0.15))
    for _ in range(10):
        result = safety.limit(ToolTarget((safety.position[0] + 0.02, safety.position[1] + 0.02, 0.15), DOWN), 0.04)
    assert result.target.position[0] == 0.6
    assert result.target.position[1] > 0.1


POST = (0.48, -0.02, 0.0, 0.52, 0.02, 0.3)


def test_a_tool_pushed_against_a_keep_out_box_slides_along_its_face_and_round_its_edge() -> None:
    limits = replace(LIMITS, keep_out=POST, keep_out_distance=0.01)
    safety, path = started(limits, (0.4, 0.01, 0.15)), []
    for _ in range(60):
        x, y, _ = safety.position
        path.append(safety.limit(ToolTarget((x + 0.02, y + 0.002, 0.15), DOWN), 0.04).target.position)
    xs, ys = np.array(path)[:, 0], np.array(path)[:, 1]
    assert xs[ys < 0.03 - 1e-9].max() == pytest.approx(0.47, abs=1e-6), "it waits at the face"
    assert xs[-1] == pytest.approx(0.6, abs=1e-6), "and goes on beside the box, up to the wall"


def test_a_tool_inside_a_keep_out_box_stays_until_told_and_may_come_out_of_it_alone() -> None:
    limits = replace(LIMITS, keep_out=(0.3, -0.2, 0.0, 0.6, 0.2, 0.1), keep_out_distance=0.0)
    safety = started(limits, (0.45, 0.0, 0.08))
    assert safety.limit(ToolTarget((0.45, 0.0, 0.08), DOWN), 0.04).target.position == (0.45, 0.0, 0.08)
    for _ in range(10):
        result = safety.limit(ToolTarget((0.45, 0.0, 0.02), DOWN), 0.04)
        assert result.target.position[2] == 0.08 and result.limits == ("keep_out",)
    for _ in range(10):
        safety.limit(ToolTarget((0.45, 0.0, safety.position[2] + 0.02), DOWN), 0.04)
    assert safety.position[2] > 0.15
    for _ in range(20):
        safety.limit(ToolTarget((0.45, 0.0, 0.0), DOWN), 0.04)
    assert safety.position[2] == pytest.approx(0.1, abs=1e-9)


@pytest.mark.parametrize(
    ("keep_out", "said"),
    [
        ((0.1, 0.2, 0.3, 0.4, 0.5), "six numbers for each box, found 5"),
        ((0.1, 0.2, 0.3, 0.4, 0.2, 0.6), "lower corner of a box below its upper one"),
        ((0.1, 0.2, 0.3, 0.4, 0.5, 600.0), "within 100 m"),
    ],
)
def test_keep_out_boxes_that_are_none_are_refused(keep_out: tuple, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        replace(LIMITS, keep_out=keep_out)


def test_a_tilt_against_the_cone_slides_along_it() -> None:
    safety = started()
    reference = Rotation.from_quat(DOWN)
    for k in range(60):
        wanted = Rotation.from_rotvec([1.0, 0.02 * k, 0.0]) * reference
        result = safety.limit(ToolTarget(CENTRE, tuple(wanted.as_quat().tolist())), 0.04)
    away = (Rotation.from_quat(result.target.quaternion) * reference.inv()).as_rotvec()
    assert np.linalg.norm(away) == pytest.approx(LIMITS.orientation_cone, abs=1e-6)
    assert math.atan2(away[1], away[0]) > 0.6


def test_not_a_number_brakes_a_moving_tool_to_rest() -> None:
    safety = started()
    for _ in range(3):
        safety.limit(ToolTarget((0.59, 0.0, 0.15), DOWN), 0.04)
    speeds = []
    for _ in range(12):
        safety.limit(ToolTarget((math.nan,) * 3, (math.nan,) * 4), math.nan)
        speeds.append(math.hypot(*safety.velocity[0]))
    assert speeds == sorted(speeds, reverse=True)
    assert speeds[0] > 0.0 and speeds[-1] == 0.0


@given(offset=st.floats(0.01, 1.0), axis=st.integers(0, 2), sign=st.sampled_from([-1.0, 1.0]))
def test_a_tool_outside_the_box_stays_until_told_and_may_only_come_back(offset: float, axis: int, sign: float) -> None:
    start = list(CENTRE)
    face = (LIMITS.workspace_max if sign > 0 else LIMITS.workspace_min)[axis]
    start[axis] = face + sign * offset
    safety = started(position=tuple(start))
    assert safety.limit(ToolTarget(tuple(start), DOWN), 0.04).target.position == tuple(start)
    distances = []
    for k in range(80):
        further = list(safety.position)
        further[axis] += sign * (0.02 if k % 2 else -0.03)
        result = safety.limit(ToolTarget((further[0], further[1], further[2]), DOWN), 0.04)
        distances.append(sign * (result.target.position[axis] - face))
    assert max(distances) <= offset
    assert distances[-1] < offset


def test_full_acceleration_is_there_when_a_policy_turns_round_away_from_walls() -> None:
    limits = replace(
        LIMITS,
        workspace_min=(0.25, -0.4, 0.01),
        workspace_max=(0.75, 0.4, 0.6),
        max_step=0.05,
        max_velocity=0.5,
        max_acceleration=10.0,
    )
    safety = started(limits, (0.5, 0.0, 0.3))
    for k in range(10):
        sign = 1.0 if k % 2 else -1.0
        x, y, z = safety.position
        assert safety.limit(ToolTarget((x + sign * 0.04, y, z), DOWN), 0.04).limits == ()


def test_step_before_reset_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="reset"):
        ToolFilter(LIMITS, PERIOD).limit(ToolTarget(CENTRE, DOWN), 0.04)


@pytest.mark.parametrize("period", [0.0, -0.1, math.nan, math.inf])
def test_a_control_period_that_is_not_positive_is_refused(period: float) -> None:
    with pytest.raises(ValueError, match="positive control period"):
        ToolFilter(LIMITS, period)


def test_reset_refuses_a_gripper_width_that_is_not_finite() -> None:
    with pytest.raises(ValueError, match="gripper width"):
        ToolFilter(LIMITS, PERIOD).reset(Pose(CENTRE, DOWN), math.nan)


@pytest.mark.parametrize("width", [0.08018, -0.002, 0.0805])
@pytest.mark.parametrize("how", ["brake", "step", "not a number"])
def test_a_width_that_was_measured_beyond_the_limits_is_not_commanded(width: float, how: str) -> None:
    safety = ToolFilter(LIMITS, PERIOD)
    safety.reset(Pose(CENTRE, DOWN), width)
    if how == "brake":
        safety.brake()
    else:
        safety.limit(ToolTarget(CENTRE, DOWN), width if how == "step" else math.nan)
    assert LIMITS.min_gripper_width <= safety.gripper_width <= LIMITS.max_gripper_width


def test_every_limit_has_words_of_its_own():
    assert tuple(LIMIT_WORDS) == LIMIT_NAMES
    assert len(set(LIMIT_WORDS.values())) == len(LIMIT_NAMES)


@given(seed=st.integers(0, 2**32 - 1), period=st.sampled_from([0.01, 0.1]), error=st.floats(0.005, 0.3))
@settings(max_examples=60, deadline=None)
def test_a_tool_that_is_blocked_keeps_its_target_within_the_reference_error(
    seed: int, period: float, error: float
) -> None:
    rng = np.random.default_rng(seed)
    limits = replace(LIMITS, max_reference_error=error, max_reference_rotation_error=error)
    safety, blocked = started(limits, period=period), Pose(CENTRE, DOWN)
    watch = Watch(limits, period, blocked, 0.04)
    named: set[str] = set()
    for step in range(120):
        safety.see(blocked)
        if step % 20 == 0:
            way, turn = rng.uniform(-1.0, 1.0, 3), rng.uniform(-1.0, 1.0, 3)
        position = tuple((np.array(safety.position) + way * limits.max_step).tolist())
        quaternion = tuple(
            (Rotation.from_rotvec(0.2 * turn) * Rotation.from_quat(safety.quaternion)).as_quat().tolist()
        )
        result = safety.limit(ToolTarget(position, quaternion), 0.04)
        watch.check(result)
        named |= {*result.limits}
        assert np.abs(np.array(result.target.position) - CENTRE).max() <= error + SLACK
        assert watch.angle(Rotation.from_quat(result.target.quaternion)) <= error + 1e-7
    assert "reference_error" in named or error > 0.15


def test_a_target_that_the_tool_was_moved_away_from_comes_near_within_the_limits() -> None:
    limits = replace(LIMITS, max_reference_error=0.03, max_reference_rotation_error=0.1)
    safety = started(limits)
    for _ in range(4):
        safety.limit(ToolTarget((safety.position[0] + 0.01, 0.0, 0.15), DOWN), 0.04)
    turned = Rotation.from_rotvec([0.0, 0.0, 0.3]) * Rotation.from_quat(DOWN)
    pushed = Pose((0.38, 0.0, 0.15), turned.as_quat())
    watch = Watch(limits, PERIOD, Pose(safety.position, safety.quaternion), 0.04)
    watch.velocity = np.array(safety.velocity[0])
    for _ in range(25):
        safety.see(pushed)
        result = safety.limit(safety.target, 0.04)
        watch.check(result)
    assert 0.38 < result.target.position[0] <= 0.41 + SLACK
    assert result.target.quaternion == DOWN, "actions that do not turn could not bring it back"
