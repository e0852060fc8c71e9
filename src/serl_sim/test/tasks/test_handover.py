# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from led_episode import lead
from serl_sim.envs import TaskEnv


@pytest.fixture(scope="module", params=["handover", "handover_trossen"])
def env(request):
    env = TaskEnv(request.param)
    yield env
    env.close()


def test_the_expert_hands_the_stick_over(env):
    ends = [lead(env, seed)[0] for seed in range(5)]
    assert all(ends), ends


def test_an_unsteady_expert_does_as_well(env):
    ends = [lead(env, seed, noise=0.3)[0] for seed in range(1, 6)]
    assert sum(ends) >= 4, ends


@pytest.mark.parametrize("idle", ["left", "right"])
def test_neither_arm_does_it_alone(env, idle):
    task = env.task
    expert = task.make_expert(np.random.default_rng(0))
    env.reset(seed=0)
    still = task.action.split(task.action.rest(dict.fromkeys(task.arms, task.start.gripper_width)))[idle]
    for _ in range(task.horizon):
        parts = task.action.split(expert.act(*env.known()))
        *_, info = env.step(task.action.join({**parts, idle: still}))
        assert not info["success"]


def test_the_taker_does_not_get_to_where_the_stick_lies(env):
    """Not by more than a hand's tolerance, wherever it lies at the start."""
    task = env.task
    box = np.array([task.limits.workspace_min, task.limits.workspace_max])
    for seed in range(20):
        env.reset(seed=seed)
        point = task.grip_points(env.world.objects()["stick"])[task.taker]
        own = task.base(task.taker).inverse().transform(point)
        assert np.linalg.norm(own - np.clip(own, *box)) > task.success.in_hand
