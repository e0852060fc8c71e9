# SPDX-License-Identifier: Apache-2.0
import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from serl_robots.control.action import ActionError, ActionSpec
from serl_robots.control.arm_command import CommandIntegrator
from serl_robots.control.robot_limits import default_limits
from serl_robots.model.pose import Pose
from serl_robots.model.robot import load_robot
from serl_robots.safety.limits import SafetyLimits

DOWN = (1.0, 0.0, 0.0, 0.0)
START = Pose((0.5, 0.0, 0.3), DOWN)
OF_ROBOT = default_limits(load_robot("panda"))
LIMITS = SafetyLimits(
    **OF_ROBOT,
    max_step=0.05,
    max_velocity=1.0,
    max_acceleration=15.0,
    max_rotation_step=0.5,
    max_angular_velocity=3.0,
    max_angular_acceleration=30.0,
    max_gripper_velocity=1.0,
)
CUBE = ActionSpec(names=("dx", "dy", "dz", "gripper"), scale=(0.02, 0.02, 0.02, 0.08))
FULL = ActionSpec(names=("dx", "dy", "dz", "rx", "ry", "rz", "gripper"), scale=(0.02, 0.02, 0.02, 0.1, 0.1, 0.1, 0.08))


def started(spec: ActionSpec, limits: SafetyLimits = LIMITS) -> CommandIntegrator:
    integrator = CommandIntegrator(spec, limits, 0.1)
    integrator.reset(START, 0.04)
    return integrator


def actions(spec: ActionSpec) -> st.SearchStrategy[np.ndarray]:
    return st.lists(st.floats(-1.0, 1.0, width=32), min_size=len(spec), max_size=len(spec)).map(
        lambda values: np.array(values, dtype=np.float32)
    )


def test_components_mean_what_the_architecture_says() -> None:
    integrator = started(FULL)
    result = integrator.step(np.array([1.0, -0.5, 0.0, 0.0, 0.0, 1.0, 1.0]))
    assert result.target.position == pytest.approx([0.52, -0.01, 0.3])
    assert START.rotation_vector_to(result.target) == pytest.approx([0.0, 0.0, 0.1])
    assert result.gripper_width == pytest.approx(0.08)
    assert integrator.step([0.0] * 6 + [-1.0]).gripper_width == pytest.approx(0.0)


@given(st.lists(actions(FULL), max_size=5))
def test_what_no_limit_touched_is_executed_bit_for_bit(sequence: list[np.ndarray]) -> None:
    integrator = started(FULL)
    for action in sequence:
        result = integrator.step(action)
        assert result.executed.dtype == np.float32
        if not result.limits:
            assert np.array_equal(result.executed, action)


@given(st.lists(actions(FULL), max_size=20))
def test_the_executed_action_is_what_was_really_commanded(sequence: list[np.ndarray]) -> None:
    careful = started(FULL, SafetyLimits(**OF_ROBOT, max_gripper_velocity=0.3))
    before = careful.target
    for action in sequence:
        result = careful.step(action)
        delta = result.target.position - before.position
        turn = before.rotation_vector_to(result.target)
        assert result.executed[:3] * 0.02 == pytest.approx(delta, abs=1e-8)
        assert result.executed[3:6] * 0.1 == pytest.approx(turn, abs=1e-8)
        assert (result.executed[6] + 1.0) * 0.04 == pytest.approx(result.gripper_width, abs=1e-8)
        before = result.target


@given(st.lists(actions(CUBE), max_size=20))
def test_the_same_actions_give_the_same_commands_bit_for_bit(sequence: list[np.ndarray]) -> None:
    first, second = started(CUBE), started(CUBE)
    for action in sequence:
        a, b = first.step(action), second.step(tuple(action.tolist()))
        assert a.target == b.target and a.gripper_width == b.gripper_width and a.limits == b.limits
        assert np.array_equal(a.executed, b.executed)


def test_an_action_without_rotation_keeps_the_orientation_exactly() -> None:
    integrator = started(CUBE)
    rng = np.random.default_rng(0)
    for _ in range(50):
        result = integrator.step(rng.uniform(-1.0, 1.0, 4))
    assert result.target.quaternion.tolist() == list(DOWN)


def test_an_action_without_gripper_keeps_the_width() -> None:
    integrator = started(ActionSpec(names=("dx", "dy", "dz"), scale=(0.02, 0.02, 0.02)))
    assert integrator.step((1.0, 1.0, 1.0)).gripper_width == 0.04


def test_values_out_of_range_are_clipped_and_named() -> None:
    result = started(CUBE).step((2.0, 0.0, 0.0, 0.0))
    assert result.limits == ("action",)
    assert result.target.position[0] == pytest.approx(0.52)
    assert result.executed[0] == 1.0


def test_values_that_are_not_finite_command_rest() -> None:
    result = started(CUBE).step((math.nan, 0.0, 0.0, 0.0))
    assert "finite" in result.limits
    assert result.target.position.tolist() == START.position.tolist()
    assert result.executed[:3].tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("action", [(), (0.0,) * 3, (0.0,) * 5, ((0.0,) * 4,)])
def test_a_wrong_shape_is_an_error(action: tuple) -> None:
    with pytest.raises(ActionError, match="expected an action of shape"):
        started(CUBE).step(action)


def test_step_and_target_before_reset_are_errors() -> None:
    integrator = CommandIntegrator(CUBE, LIMITS, 0.1)
    with pytest.raises(RuntimeError, match="reset"):
        integrator.step((0.0,) * 4)
    with pytest.raises(RuntimeError, match="reset"):
        assert integrator.target


def test_resync_goes_on_from_the_measured_pose_as_the_limits_allow_and_keeps_the_grip() -> None:
    integrator = started(CUBE)
    targets = [START.position, integrator.step((1.0, 0.0, 0.0, -1.0)).target.position]
    measured = Pose((0.45, 0.1, 0.2), DOWN)
    integrator.resync(measured)
    assert integrator.gripper_width == pytest.approx(0.0)
    executed = []
    for _ in range(10):
        result = integrator.step((1.0, 0.0, 0.0, -1.0))
        targets.append(result.target.position)
        executed.append(result.executed[0])
    assert targets[-1] == pytest.approx([0.45 + 10 * 0.02, 0.1, 0.2]), "every action has counted"
    assert np.linalg.norm(np.diff(targets, axis=0), axis=1).max() <= LIMITS.max_step + 1e-9
    change = np.linalg.norm(np.diff(targets, 2, axis=0), axis=1).max()
    assert change <= LIMITS.max_acceleration * 0.1**2 + 1e-9
    assert executed[-1] == 1.0


def test_resync_near_the_commanded_pose_takes_one_step() -> None:
    integrator = started(CUBE)
    integrator.step((1.0, 0.0, 0.0, -1.0))
    integrator.resync(Pose((0.51, 0.01, 0.3), DOWN))
    result = integrator.step((1.0, 0.0, 0.0, -1.0))
    assert result.target.position.tolist() == pytest.approx([0.53, 0.01, 0.3])
    assert result.executed.tolist() == [1.0, 0.0, 0.0, -1.0]


@given(st.lists(actions(FULL), min_size=5, max_size=40), st.tuples(*[st.floats(-0.2, 0.2)] * 3))
def test_however_far_a_resync_reaches_it_arrives_without_breaking_a_limit(
    sequence: list[np.ndarray], offset: tuple[float, float, float]
) -> None:
    limits = SafetyLimits(**OF_ROBOT, max_step=0.05, max_velocity=0.4, max_acceleration=0.5)
    integrator = started(FULL, limits)
    targets = [START.position, START.position]
    for number, action in enumerate([*sequence, *[np.zeros(7, np.float32)] * 60]):
        if number == 4:
            integrator.resync(Pose(np.clip(START.position + offset, (0.26, -0.3, 0.1), (0.7, 0.3, 0.5)), DOWN))
        targets.append(integrator.step(action).target.position)
    assert np.linalg.norm(np.diff(targets, 2, axis=0), axis=1).max() <= 0.5 * 0.1**2 + 1e-9
    assert targets[-1] == pytest.approx(targets[-2], abs=1e-6)


def test_a_tool_that_does_not_follow_gets_its_target_back_after_the_timeout() -> None:
    integrator = started(CUBE)
    names, targets = [], []
    for k in range(34):
        result = integrator.step((1.0, 0.0, 0.0, 0.0) if k < 23 else (0.0,) * 4)
        names.append(result.limits)
        targets.append(result.target)
        assert integrator.observe(START, 0.1) == (k == 22)
    assert ["tracking_error" in limits for limits in names].index(True) == 23
    assert targets[-1].distance(START) < 1e-9
    assert max(a.distance(b) for a, b in pairwise(targets)) <= LIMITS.max_step + 1e-9


def test_a_tool_that_follows_slowly_but_follows_is_left_alone() -> None:
    integrator = started(CUBE)
    for _ in range(5):
        integrator.step((1.0, 0.0, 0.0, 0.0))
    for k in range(100):  # comes nearer by 1 cm each second
        assert not integrator.observe(Pose((0.5 + 0.001 * k, 0.0, 0.3), DOWN), 0.1)


@pytest.mark.parametrize(
    ("names", "scale", "said"),
    [
        (("dx", "dy", "dz", "dz"), (1.0,) * 4, "each once"),
        (("x",), (1.0,), "some of dx dy dz rx ry rz gripper"),
        ((), (), "some of dx"),
        (("gripper",), (0.0,), "1 positive numbers"),
        (("gripper",), (1.0, 1.0), "1 positive numbers"),
        (("gripper",), (math.nan,), "finite"),
    ],
)
def test_an_action_space_that_makes_no_sense_is_refused(
    names: tuple[str, ...], scale: tuple[float, ...], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        ActionSpec(names=names, scale=scale)


def test_check_gives_float32_and_forgives_rounding_only() -> None:
    checked = CUBE.check([1.000001, 0, 0, -1.000001])
    assert checked.dtype == np.float32 and checked.tolist() == [1.0, 0.0, 0.0, -1.0]
    for bad in ([1.1, 0, 0, 0], [math.nan, 0, 0, 0], [0, 0, 0], [[0, 0, 0, 0]]):
        with pytest.raises(ActionError):
            CUBE.check(bad)


@given(st.floats(0.0, 0.08))
def test_the_action_that_changes_nothing_keeps_the_width(width: float) -> None:
    integrator = started(FULL)
    integrator.reset(START, width)
    result = integrator.step(FULL.rest(width))
    assert result.gripper_width == pytest.approx(width, abs=1e-8)
    assert result.target.distance(START) == 0.0
    assert ActionSpec(names=("dx", "dy", "dz"), scale=(1.0,) * 3).rest(0.05).tolist() == [0.0] * 3
