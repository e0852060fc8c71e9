# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from serl_robots.model.pose import Pose

from serl_tasks import ArmSample, get_task

TASK = get_task("pick_cube")
DOWN = (1.0, 0.0, 0.0, 0.0)


def arm(position, width=0.08, target=None):
    return ArmSample(Pose(position, DOWN), np.zeros(6), width, width if target is None else target)


def objects(tcp, cube):
    return {"tcp": Pose(tcp, DOWN), "cube": Pose(cube)}


def state_of(sample, poses):
    observer = TASK.make_observer()
    observer.begin(sample, seed=0)
    return observer.state(sample, poses)


coordinates = st.tuples(st.floats(0.33, 0.67), st.floats(-0.17, 0.17), st.floats(0.015, 0.30))


@given(st.integers(0, 2**32), st.integers(0, 2**32))
def test_the_seed_alone_decides_where_the_cube_lies(seed, other):
    first = TASK.sample_objects(np.random.default_rng(seed))
    TASK.sample_objects(np.random.default_rng(other))
    again = TASK.sample_objects(np.random.default_rng(seed))
    assert first == again
    x, y, z = first["cube"].position
    assert 0.4 <= x <= 0.6
    assert -0.1 <= y <= 0.1
    assert z == 0.02
    assert first["cube"].angle(Pose.identity()) <= np.deg2rad(8.6) + 1e-9


@given(coordinates, coordinates)
def test_the_state_vector_is_about_unit_range(tcp, cube):
    state = state_of(arm(tcp), objects(tcp, cube))
    assert state.dtype == np.float32
    assert state.shape == (14,)
    assert np.abs(state).max() < 4.0


def test_the_state_vector_is_in_the_order_of_the_file():
    tcp, cube = (0.5, 0.0, 0.15), (0.65, 0.15, 0.17)
    sample = ArmSample(Pose(tcp, DOWN), np.array([0.4, 0, -0.4, 9, 9, 9]), 0.08, 0.0)
    expected = [0, 0, 0, 1, 0, -1, 1, -1, 1, 1, 1, 1.5, 1.5, 0.2]
    np.testing.assert_allclose(state_of(sample, objects(tcp, cube)), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("tcp", "cube", "success"),
    [
        ((0.5, 0.0, 0.125), (0.5, 0.0, 0.121), True),
        ((0.5, 0.0, 0.125), (0.5, 0.0, 0.119), False),  # not high enough
        ((0.5, 0.05, 0.125), (0.5, 0.0, 0.125), False),  # high, and not in the hand
    ],
)
def test_success_is_a_lifted_cube_in_the_hand(tcp, cube, success):
    judgement = TASK.judge(objects(tcp, cube))
    assert (judgement.reward, judgement.success, judgement.terminated) == (float(success), success, success)


def test_the_distance_to_the_goal_falls_on_the_way():
    way = [
        objects((0.5, 0.0, 0.2), (0.55, 0.05, 0.02)),
        objects((0.55, 0.05, 0.08), (0.55, 0.05, 0.02)),
        objects((0.55, 0.05, 0.02), (0.55, 0.05, 0.02)),
        objects((0.55, 0.05, 0.08), (0.55, 0.05, 0.08)),
        objects((0.55, 0.05, 0.12), (0.55, 0.05, 0.12)),
    ]
    distances = [TASK.distance_to_goal(state) for state in way]
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] == pytest.approx(0.0, abs=1e-9)


@given(coordinates, coordinates, st.floats(0.0, 0.08), st.floats(0.0, 0.08), st.floats(0.0, 1.0))
def test_an_expert_answers_every_state_with_an_action(tcp, cube, width, target, noise):
    expert = TASK.make_expert(np.random.default_rng(0), noise=noise)
    action = expert.act(arm(tcp, width, target), objects(tcp, cube))
    assert action.dtype == np.float32
    assert TASK.action_space.contains(action)


def test_the_expert_opens_approaches_closes_and_lifts():
    expert = TASK.make_expert(np.random.default_rng(0))
    cube = (0.5, 0.05, 0.02)

    def act(tcp, width, target):
        return expert.act(arm(tcp, width, target), objects(tcp, cube))

    far = act((0.5, -0.1, 0.2), 0.08, 0.08)
    assert far[1] > 0.9
    assert far[3] == 1.0
    above = act((0.5, 0.05, 0.08), 0.08, 0.08)
    assert above[2] < -0.9
    assert above[3] == 1.0
    closed_too_early = act((0.5, 0.05, 0.08), 0.0, 0.0)
    assert closed_too_early[3] == 1.0
    assert abs(closed_too_early[2]) < 0.1
    there = act((0.5, 0.05, 0.02), 0.08, 0.08)
    assert there[3] == -1.0
    assert np.abs(there[:3]).max() < 0.1
    gripped = act((0.5, 0.05, 0.02), 0.04, 0.0)
    np.testing.assert_array_equal(gripped, [0, 0, 1, -1])


def test_noise_comes_from_the_generator_that_was_given():
    def actions(seed):
        expert = TASK.make_expert(np.random.default_rng(seed), noise=0.3)
        return [expert.act(arm((0.5, 0, 0.2)), objects((0.5, 0, 0.2), (0.45, 0.05, 0.02))) for _ in range(5)]

    np.testing.assert_array_equal(actions(1), actions(1))
    assert not np.array_equal(actions(1), actions(2))


@pytest.mark.parametrize("noise", [-0.1, float("nan")])
def test_noise_that_is_none_is_refused(noise):
    with pytest.raises(ValueError, match="noise"):
        TASK.make_expert(np.random.default_rng(0), noise=noise)
