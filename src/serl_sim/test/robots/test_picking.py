# SPDX-License-Identifier: Apache-2.0
"""Every arm picks the cube by the script of its task, through the safety filter and the simulated controller."""

import numpy as np
import pytest
from serl_sim.envs import TaskEnv

ARMS = ["fr3", "so101", "piper", "trossen"]


@pytest.mark.parametrize("arm", ARMS)
def test_the_expert_picks_the_cube(arm: str) -> None:
    env = TaskEnv(f"pick_cube_{arm}")
    assert env.world.robot.name == arm
    ends = []
    for seed in range(6):
        env.reset(seed=seed)
        expert = env.task.make_expert(np.random.default_rng(seed))
        over = False
        while not over:
            _, _, terminated, truncated, info = env.step(expert.act(*env.known()))
            over = terminated or truncated
        ends.append(info["success"])
    assert all(ends), ends
