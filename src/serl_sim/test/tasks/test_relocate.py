# SPDX-License-Identifier: Apache-2.0
"""A cube is carried from bin to bin in the world, and back from wherever it was put."""

import numpy as np
import pytest
from led_episode import lead
from serl_sim.envs import TaskEnv

from serl_tasks import get_task


@pytest.mark.slow
@pytest.mark.parametrize("name", ["relocate_forward", "relocate_backward"])
def test_the_expert_brings_it_in_ninety_five_of_a_hundred_scenes(name: str) -> None:
    env = TaskEnv(name)
    found = []
    for seed in range(100 if name == "relocate_forward" else 20):
        found.append(lead(env, seed))
    assert sum(success for success, _ in found) >= 0.95 * len(found)
    assert np.mean([length for _, length in found]) < 30


def test_a_clumsy_expert_mostly_does() -> None:
    env = TaskEnv("relocate_forward")
    found = []
    for seed in range(20):
        found.append(lead(env, seed, noise=0.3)[0])
    assert sum(found) >= 16


def test_two_experts_take_turns_without_anybody_who_resets() -> None:
    """The backward expert begins with arm and cube as the forward one has left them, twenty times in a row."""
    env = TaskEnv("relocate_forward")
    env.reset(seed=1)
    tasks = [get_task("relocate_forward"), get_task("relocate_backward")]
    for turn in range(20):
        task = tasks[turn % 2]
        expert = task.make_expert(np.random.default_rng(turn))
        for _ in range(task.horizon):
            env.step(expert.act(*env.known()))
            if task.judge(env.world.objects()).success:
                break
        else:
            pytest.fail(f"turn {turn}: {env.world.objects()['cube'].position}")
