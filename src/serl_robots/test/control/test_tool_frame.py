# SPDX-License-Identifier: Apache-2.0
"""Any of the six deltas of the tool, in the frame of the base and in that of the tool."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from serl_robots.control.action import GRIPPER, ROTATION, TRANSLATION, ActionSpec, Frame
from serl_robots.control.arm_command import CommandIntegrator
from serl_robots.model.pose import Pose, quaternion_rotate
from serl_robots.safety.limits import SafetyLimits

AXES = (*TRANSLATION, *ROTATION)
START = Pose((0.5, 0.0, 0.3), (1.0, 0.0, 0.0, 0.0))
FRAMES: tuple[Frame, ...] = ("base", "tool")

numbers = st.floats(-1.0, 1.0, width=32)
rotation_vectors = st.tuples(*[st.floats(-1.8, 1.8)] * 3)
places = st.tuples(*[st.floats(-2.0, 2.0)] * 3)
subsets = st.lists(st.sampled_from((*AXES, GRIPPER)), min_size=1, max_size=7, unique=True)


def spec_of(names: list[str]) -> ActionSpec:
    scales = {**dict.fromkeys(TRANSLATION, 0.02), **dict.fromkeys(ROTATION, 0.05), GRIPPER: 0.08}
    return ActionSpec(names=tuple(names), scale=tuple(scales[name] for name in names))


def started(spec: ActionSpec, frame: Frame, start: Pose = START, **careful: float) -> CommandIntegrator:
    """An integrator whose limits nobody meets, but for those that are given."""
    fast = {
        "max_step": 0.05,
        "max_velocity": 2.0,
        "max_acceleration": 15.0,
        "max_rotation_step": 0.5,
        "max_angular_velocity": 3.0,
        "max_angular_acceleration": 30.0,
        "max_gripper_velocity": 10.0,
        "orientation_cone": 1.5,
    }
    limits = SafetyLimits(
        workspace_min=(-9.0, -9.0, -9.0),
        workspace_max=(9.0, 9.0, 9.0),
        reference_orientation=tuple(start.quaternion.tolist()),
        min_gripper_width=0.0,
        max_gripper_width=0.08,
        **(fast | careful),
    )
    integrator = CommandIntegrator(spec, limits, 0.1, frame=frame)
    integrator.reset(start, 0.04)
    return integrator


def expected(pose: Pose, spec: ActionSpec, action: np.ndarray, frame: Frame) -> tuple[np.ndarray, Rotation]:
    """Position and orientation after an action, by another library's rotations."""
    delta = np.zeros(6)
    for name, value, scale in zip(spec.names, action, spec.scale, strict=True):
        if name in AXES:
            delta[AXES.index(name)] = float(value) * scale
    now, turn = Rotation.from_quat(pose.quaternion), Rotation.from_rotvec(delta[3:])
    if frame == "tool":
        return pose.position + now.apply(delta[:3]), now * turn
    return pose.position + delta[:3], turn * now


@pytest.mark.parametrize("frame", FRAMES)
@given(names=subsets, turned=rotation_vectors, values=st.lists(st.lists(numbers, min_size=7, max_size=7), max_size=4))
def test_any_deltas_move_the_tool_in_the_frame_of_the_task(frame, names, turned, values):
    spec = spec_of(names)
    integrator = started(spec, frame, Pose.from_rotation_vector((0.1, 0.2, 0.3), turned))
    for row in values:
        before, action = integrator.target, np.array(row[: len(spec)], np.float32)
        result = integrator.step(action)
        position, orientation = expected(before, spec, action, frame)
        np.testing.assert_allclose(result.target.position, position, atol=1e-9)
        assert (Rotation.from_quat(result.target.quaternion) * orientation.inv()).magnitude() < 1e-7
        np.testing.assert_array_equal(result.executed, action)
        if not set(names) & set(ROTATION):
            assert result.target.quaternion.tolist() == before.quaternion.tolist(), "what has no component stays"


@given(rotation_vectors, rotation_vectors, places, st.lists(st.lists(numbers, min_size=7, max_size=7), max_size=6))
def test_deltas_of_the_tool_do_the_same_wherever_it_starts(turned, moved, place, values):
    """Turning and moving the start turns and moves everything that is commanded."""
    spec = spec_of([*AXES, GRIPPER])
    here = Pose.from_rotation_vector((0.5, 0.0, 0.3), turned)
    transform = Pose.from_rotation_vector(place, moved)
    ours, theirs = started(spec, "tool", here), started(spec, "tool", transform.compose(here))
    for row in values:
        first, second = ours.step(row), theirs.step(row)
        assert transform.compose(first.target).distance(second.target) < 1e-9
        assert transform.compose(first.target).angle(second.target) < 1e-7
        np.testing.assert_array_equal(first.executed, second.executed)


@pytest.mark.parametrize("frame", FRAMES)
@given(turned=rotation_vectors, values=st.lists(st.lists(numbers, min_size=7, max_size=7), max_size=8))
def test_what_is_reported_as_executed_leads_to_what_was_commanded(frame, turned, values):
    """Also where limits have acted: the report, executed without limits, gives the same pose."""
    spec = spec_of([*AXES, GRIPPER])
    careful = started(
        spec,
        frame,
        Pose.from_rotation_vector((0.1, 0.2, 0.3), turned),
        max_acceleration=1.0,
        max_angular_acceleration=4.0,
    )
    for row in values:
        before = careful.target
        result = careful.step(row)
        position, orientation = expected(before, spec, result.executed, frame)
        np.testing.assert_allclose(result.target.position, position, atol=1e-7)
        assert (Rotation.from_quat(result.target.quaternion) * orientation.inv()).magnitude() < 1e-6


def test_limits_stay_in_the_frame_of_the_base():
    tilted = Pose.from_rotation_vector((8.99, 0.0, 0.3), (0.0, 0.0, 0.5 * np.pi))
    integrator = started(spec_of(["dy"]), "tool", tilted)
    results = [integrator.step([-1.0]) for _ in range(5)]  # the tool's -y is the base's +x
    assert results[-1].target.position == pytest.approx([9.0, 0.0, 0.3])
    assert "workspace" in results[-1].limits
    assert results[-1].executed[0] == pytest.approx(0.0, abs=1e-6)


@given(rotation_vectors, places)
def test_a_vector_is_turned_as_by_the_matrix(turned, vector):
    pose = Pose.from_rotation_vector((0.0, 0.0, 0.0), turned)
    x, y, z, w = pose.quaternion.tolist()
    np.testing.assert_allclose(quaternion_rotate((x, y, z, w), vector), pose.rotate(vector), atol=1e-12)
