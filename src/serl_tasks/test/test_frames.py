# SPDX-License-Identifier: Apache-2.0
"""With `frame: tool` nobody can tell where the scene is, nor how it is turned."""

import dataclasses

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from serl_robots.model.pose import Pose
from serl_tasks.episode_errors import ErrorSettings
from serl_tasks.observation import StateTerm
from serl_tasks.state_terms import ARM_TERMS, LAST_ACTION, last_action_term, object_terms

from serl_tasks import ArmSample, get_task

PICK = get_task("pick_cube")
TERMS = {**ARM_TERMS, LAST_ACTION: last_action_term(4), **object_terms("cube")}
SIZES = {name: term.size or 7 for name, term in TERMS.items()}  # of joints there are seven
STATE = tuple(StateTerm(name=name, shift=(0.0,) * size, scale=(1.0,) * size) for name, size in SIZES.items())
TOOL = dataclasses.replace(PICK, frame="tool", state=STATE)
BASE = dataclasses.replace(PICK, state=STATE)

rotation_vectors = st.tuples(*[st.floats(-1.8, 1.8)] * 3)
places = st.tuples(*[st.floats(-2.0, 2.0)] * 3)
poses = st.builds(Pose.from_rotation_vector, places, rotation_vectors)


@st.composite
def arms(draw):
    velocity, wrench = (np.array(draw(st.tuples(*[st.floats(-1.0, 1.0)] * 6))) for _ in range(2))
    joints = np.arange(7.0)
    return ArmSample(draw(poses), velocity, 0.05, 0.06, draw(poses), joints, -joints, wrench)


def moved_arm(transform, arm):
    velocity = np.concatenate([transform.rotate(arm.tcp_velocity[:3]), transform.rotate(arm.tcp_velocity[3:])])
    return dataclasses.replace(
        arm, tcp=transform.compose(arm.tcp), tcp_velocity=velocity, commanded=transform.compose(arm.commanded)
    )


def observed(task, start, arm, cube):
    observer = task.make_observer()
    observer.begin(start, seed=3)
    observer.advance(np.array([0.1, 0.2, -0.3, 1.0], np.float32))
    return observer.state(arm, {"tcp": arm.tcp, "cube": cube})


@given(poses, arms(), arms(), poses)
def test_turning_and_moving_the_whole_scene_changes_no_observation(transform, start, arm, cube):
    here = observed(TOOL, start, arm, cube)
    there = observed(TOOL, moved_arm(transform, start), moved_arm(transform, arm), transform.compose(cube))
    np.testing.assert_allclose(there, here, atol=2e-6)


@given(arms(), arms(), poses)
def test_in_the_frame_of_a_tool_that_is_the_base_both_frames_are_the_same(start, arm, cube):
    """Where the tool is at the base's origin, now and at the start, every term has the same values in both."""
    origin = Pose.identity()
    start, arm = dataclasses.replace(start, tcp=origin), dataclasses.replace(arm, tcp=origin)
    np.testing.assert_allclose(observed(TOOL, start, arm, cube), observed(BASE, start, arm, cube), atol=1e-6)


@given(arms())
def test_an_episode_begins_at_the_origin(start):
    observer = dataclasses.replace(TOOL, state=STATE[:4]).make_observer()
    observer.begin(start, seed=0)
    state = observer.state(start, {})
    np.testing.assert_allclose(state, [0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0], atol=1e-6)


@given(arms(), arms(), poses)
def test_an_error_of_calibration_does_not_show_in_a_pose_from_the_start(start, arm, cube):
    wrong = dataclasses.replace(TOOL, state=STATE[:4], errors=ErrorSettings(tool_position=(0.01, 0.01, 0.01)))
    right = dataclasses.replace(TOOL, state=STATE[:4])
    np.testing.assert_allclose(observed(wrong, start, arm, cube), observed(right, start, arm, cube), atol=1e-6)


@given(arms(), places)
def test_experts_turn_ways_into_the_frame_of_the_action(arm, way):
    way = np.array(way)
    assert BASE.in_action_frame(way, arm) is way
    np.testing.assert_allclose(arm.commanded.rotate(TOOL.in_action_frame(way, arm)), way, atol=1e-9)


def test_the_meaning_says_the_frame_where_it_is_not_the_base():
    assert "frame" not in PICK.meaning, "as in what was stored before there were frames"
    assert TOOL.meaning["frame"] == "tool"
