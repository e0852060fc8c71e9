# SPDX-License-Identifier: Apache-2.0
"""An episode that the scripted expert leads, without ROS."""

import numpy as np
from serl_sim.envs import TaskEnv


def lead(env: TaskEnv, seed: int, noise: float = 0.0) -> tuple[bool, int]:
    """Success of the expert in an episode, and its length."""
    expert = env.task.make_expert(np.random.default_rng(seed), noise)
    env.reset(seed=seed)
    for step in range(1, env.task.horizon + 1):
        *_, terminated, truncated, info = env.step(expert.act(*env.known()))
        if terminated or truncated:
            return bool(info["success"]), step
    raise AssertionError("an episode ends")
