# SPDX-License-Identifier: Apache-2.0
"""What a robot knows wrongly: drawn from the episode's seed, seen in the observation, and by nobody who judges."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from serl_robots.model.pose import Pose, quaternion_exp
from serl_tasks.episode_errors import BOUND, ErrorSettings
from serl_tasks.observation import StateTerm

from serl_tasks import ArmSample, get_task

PICK = get_task("pick_cube")
DOWN = (1.0, 0.0, 0.0, 0.0)
ARM = ArmSample(Pose((0.5, 0.1, 0.2), DOWN), np.zeros(6), 0.08, 0.07, Pose((0.5, 0.1, 0.19), DOWN))
WORLD = {"tcp": ARM.tcp, "cube": Pose((0.45, 0.0, 0.02), quaternion_exp((0.0, 0.0, 0.3)))}
WRONG = ErrorSettings(
    tool_position=(0.002, 0.001, 0.0), objects={"cube": (0.004, 0.004, 0.001)}, objects_yaw_deg={"cube": 5.0}
)
TERMS = tuple(
    StateTerm(name=name, shift=(0.0,) * size, scale=(1.0,) * size)
    for name, size in [("tcp_position", 3), ("cube_position", 3), ("cube_from_tcp", 3), ("tcp_tracking_error", 3)]
)
seeds = st.integers(0, 2**62)


def task_with(**changes):
    return dataclasses.replace(PICK, **changes)


def states(task, seed, steps=1):
    """The state vectors of an episode in which nothing moves, but for the first."""
    observer = task.make_observer()
    observer.begin(ARM, seed)
    found = []
    for _ in range(steps):
        observer.advance(np.zeros(4, np.float32))
        found.append(observer.state(ARM, WORLD))
    return np.array(found)


@given(seeds, seeds)
def test_errors_come_from_the_seed_of_the_episode_alone(seed, other):
    first = WRONG.draw(seed)
    WRONG.draw(other)
    again = WRONG.draw(seed)
    np.testing.assert_array_equal(first.tool_position, again.tool_position)
    assert first.objects(WORLD) == again.objects(WORLD)


@given(seeds)
def test_another_error_changes_none_that_is_there(seed):
    more = dataclasses.replace(WRONG, objects={"ball": (0.1, 0.1, 0.1), **WRONG.objects})
    np.testing.assert_array_equal(more.draw(seed).tool_position, WRONG.draw(seed).tool_position)
    np.testing.assert_array_equal(more.draw(seed).positions["cube"], WRONG.draw(seed).positions["cube"])


def test_errors_have_the_deviations_that_the_task_says_and_are_bounded():
    drawn = [WRONG.draw(seed) for seed in range(4000)]
    for errors, deviations in (
        ([each.tool_position for each in drawn], WRONG.tool_position),
        ([each.positions["cube"] for each in drawn], WRONG.objects["cube"]),
        ([[each.yaws["cube"]] for each in drawn], [np.deg2rad(5.0)]),
    ):
        deviations = np.array(deviations)
        assert (np.abs(errors) <= BOUND * deviations).all()
        # a normal distribution that is cut at three deviations has 0.9866 of its deviation left
        np.testing.assert_allclose(np.std(errors, axis=0), 0.9866 * deviations, rtol=0.05)
        assert (np.abs(np.mean(errors, axis=0)) <= 4.0 * deviations / np.sqrt(len(drawn))).all()
    apart = np.corrcoef([[*each.tool_position[:2], *each.positions["cube"]] for each in drawn], rowvar=False)
    assert np.abs(apart - np.eye(5)).max() < 0.1, "errors know nothing of each other"


@given(seeds)
def test_what_is_observed_of_an_object_is_the_estimate(seed):
    errors = WRONG.draw(seed)
    [state] = states(task_with(errors=WRONG, state=TERMS), seed)
    tool = ARM.tcp.position + errors.tool_position
    cube = WORLD["cube"].position + errors.positions["cube"]
    expected = np.concatenate([tool, cube, cube - tool, [0.0, 0.0, -0.01]])
    np.testing.assert_allclose(state, expected, atol=1e-6)


@given(seeds)
def test_an_expert_knows_what_is_observed(seed):
    observer = task_with(errors=WRONG).make_observer()
    observer.begin(ARM, seed)
    arm, objects = observer.known(ARM, WORLD)
    errors = WRONG.draw(seed)
    np.testing.assert_allclose(arm.tcp.position - ARM.tcp.position, errors.tool_position, atol=1e-12)
    assert arm.tcp == objects["tcp"] == arm.commanded, "the tool begins where it is measured"
    np.testing.assert_allclose(WORLD["cube"].position_to(objects["cube"]), errors.positions["cube"], atol=1e-12)
    turn = WORLD["cube"].rotation_vector_to(objects["cube"])
    np.testing.assert_allclose(turn, [0.0, 0.0, errors.yaws["cube"]], atol=1e-9)
    assert PICK.judge(WORLD) == PICK.judge(dict(WORLD)), "and whoever judges is not asked"


def test_without_errors_what_is_known_is_the_truth_itself():
    observer = PICK.make_observer()
    observer.begin(ARM, 0)
    observer.advance(np.zeros(4, np.float32))
    arm, objects = observer.known(ARM, WORLD)
    assert arm is ARM
    assert objects is WORLD


def test_the_tracking_error_is_zero_until_the_first_step():
    task = task_with(state=TERMS[3:])
    observer = task.make_observer()
    observer.begin(ARM, 0)
    np.testing.assert_array_equal(observer.state(ARM, WORLD), [0.0, 0.0, 0.0])
    observer.advance(np.zeros(4, np.float32))
    np.testing.assert_allclose(observer.state(ARM, WORLD), [0.0, 0.0, -0.01], atol=1e-9)


def test_noise_is_new_in_every_step_and_the_same_for_who_looks_twice():
    task = task_with(errors=ErrorSettings(observation_noise=0.02))
    noisy, plain = states(task, 7, steps=3000), states(PICK, 7)[0]
    noise = noisy - plain
    names = [value["name"] for value in PICK.meaning["state"]]
    commanded = names.index("gripper_target[0]")
    assert (noise[:, commanded] == 0.0).all(), "what is commanded is known"
    measured = np.delete(noise, commanded, axis=1)
    np.testing.assert_allclose(measured.std(axis=0), 0.02, rtol=0.1)
    np.testing.assert_array_equal(noisy, states(task, 7, steps=3000))
    observer = task.make_observer()
    observer.begin(ARM, 7)
    np.testing.assert_array_equal(observer.state(ARM, WORLD), observer.state(ARM, WORLD))
    assert not np.array_equal(states(task, 8)[0], noisy[0])


def test_noise_of_one_term_leaves_the_others():
    task = task_with(errors=ErrorSettings(observation_noise={"tcp_linear_velocity": 0.1}))
    noise = states(task, 0)[0] - states(PICK, 0)[0]
    assert (noise[3:6] != 0.0).all()
    assert not np.delete(noise, range(3, 6)).any()


def test_an_observer_that_has_not_begun_says_so():
    observer = PICK.make_observer()
    assert not observer.has_begun
    with pytest.raises(RuntimeError, match="begin"):
        observer.state(ARM, WORLD)
    with pytest.raises(ValueError, match="seed: expected an integer from 0, found -1"):
        task_with(errors=WRONG).make_observer().begin(ARM, -1)


@pytest.mark.parametrize(
    ("errors", "message"),
    [
        ({"objects": {"cub": (0.1, 0.1, 0.1)}}, "errors: there is no object 'cub'; did you mean 'cube'"),
        ({"objects_yaw_deg": {"ball": 1.0}}, "errors: there is no object 'ball'"),
        ({"objects": {"cube": (0.1, -0.1, 0.1)}}, r"objects.cube: expected standard deviations from 0"),
        ({"tool_position": (-0.1, 0.0, 0.0)}, "tool_position: expected standard deviations from 0"),
        ({"observation_noise": -1.0}, "observation_noise: expected standard deviations from 0"),
        ({"observation_noise": {"tcp_positon": 0.1}}, "'tcp_positon' is no term of 'state'; did you mean"),
    ],
)
def test_errors_that_are_none_are_refused(errors, message):
    with pytest.raises(ValueError, match=message):
        task_with(errors=ErrorSettings(**errors))
