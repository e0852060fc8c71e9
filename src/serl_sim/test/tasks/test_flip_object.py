# SPDX-License-Identifier: Apache-2.0
"""A slab that is knocked over, in the world: a blow does it, a slow push does not."""

import numpy as np
import pytest
from led_episode import lead
from numpy.typing import NDArray
from serl_sim.envs import TaskEnv


@pytest.fixture(scope="module")
def env() -> TaskEnv:
    return TaskEnv("flip_object")


def test_the_expert_flips_nearly_all(env: TaskEnv) -> None:
    assert sum(lead(env, seed)[0] for seed in range(30)) >= 27


def test_a_slow_push_flips_none(env: TaskEnv) -> None:
    push: NDArray[np.float32] = np.array((0.15, 0.0, 0.0), np.float32)
    for seed in range(10):
        env.reset(seed=seed)
        for _ in range(env.task.horizon):
            *_, info = env.step(push)
        assert not info["success"]
