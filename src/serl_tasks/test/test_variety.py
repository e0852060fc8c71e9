# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
from serl_robots.model.pose import Pose
from serl_tasks.variety import VariedExpert

from serl_tasks import ArmSample, get_task

TASK = get_task("pick_cube")


def actions(seed: int, count: int) -> np.ndarray:
    """What the expert does while nothing moves."""
    expert = VariedExpert(TASK, np.random.default_rng(seed))
    tool = Pose(np.array([0.5, 0.0, 0.2]), np.array([1.0, 0.0, 0.0, 0.0]))
    cube = Pose(np.array([0.45, 0.05, 0.02]), np.array([0.0, 0.0, 0.0, 1.0]))
    arm = ArmSample(tcp=tool, tcp_velocity=np.zeros(6), gripper_width=0.08, gripper_target=0.08)
    return np.array([expert.act(arm, {"tcp": tool, "cube": cube}) for _ in range(count)])


def test_actions_are_normalized_and_repeat_with_the_seed():
    found = actions(0, 200)
    assert found.dtype == np.float32
    assert found.shape == (200, 4)
    assert np.abs(found).max() <= 1.0
    np.testing.assert_array_equal(found, actions(0, 200))
    assert (found != actions(1, 200)).any()


def test_a_hand_that_ought_to_stay_open_is_closed_for_some_steps_in_a_row():
    closed = actions(0, 1000)[:, 3] == -1.0
    assert 0.03 < closed.mean() < 0.5
    assert (closed[1:] & closed[:-1]).any()


def test_often_the_expert_does_as_it_likes():
    expected = TASK.make_expert(np.random.default_rng(0))
    tool = Pose(np.array([0.5, 0.0, 0.2]), np.array([1.0, 0.0, 0.0, 0.0]))
    cube = Pose(np.array([0.45, 0.05, 0.02]), np.array([0.0, 0.0, 0.0, 1.0]))
    arm = ArmSample(tcp=tool, tcp_velocity=np.zeros(6), gripper_width=0.08, gripper_target=0.08)
    wanted = expected.act(arm, {"tcp": tool, "cube": cube})
    assert np.isclose(actions(0, 1000), wanted, atol=1e-6).all(axis=1).mean() > 0.04
