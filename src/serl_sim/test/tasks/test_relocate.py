# SPDX-License-Identifier: Apache-2.0
"""A cube is carried from bin to bin in the world, and back from wherever it was put."""

import numpy as np
import pytest
from serl_sim.envs import TaskEnv

from serl_tasks import get_task


def lead(env: TaskEnv, seed: int, noise: float = 0.0) -> tuple[bool, int]:
    """Success of the expert from where things are, and how many steps that took."""
    expert = env.task.make_expert(np.random.default_rng(seed), noise)
    for step in range(1, env.task.horizon + 1):
        *_, terminated, truncated, info = env.step(expert.act(*env.known()))
        if terminated or truncated:
            return bool(info["success"]), step
    raise AssertionError("an episode ends")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["relocate_forward", "relocate_backward"])
def test_the_expert_brings_it_in_ninety_five_of_a_hundred_scenes(name: str) -> None:
    env = TaskEnv(name)
    found = []
    for seed in range(100 if name == "relocate_forward" else 20):
        env.reset(seed=seed)
        found.append(lead(env, seed))
    assert sum(success for success, _ in found) >= 0.95 * len(found)
    assert np.mean([length for _, length in found]) < 30


def test_a_clumsy_expert_mostly_does() -> None:
    env = TaskEnv("relocate_forward")
    found = []
    for seed in range(20):
        env.reset(seed=seed)
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
