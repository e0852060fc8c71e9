# SPDX-License-Identifier: Apache-2.0
"""How well a task's scripted expert does it, in one process: ``python -m serl_bench.suite.teacher TASK EPISODES SEED``.

It acts on what is known of the world, as when it demonstrates, but without the noise of a demonstration.
"""

import dataclasses
import json
import sys
from typing import Any

import numpy as np
from serl_sim.envs import TaskEnv

from serl_tasks import get_task


def evaluate_teacher(task_name: str, episodes: int, seed: int) -> dict[str, Any]:
    """Success and cycle time of the expert on start states of its own.

    Args:
        task_name: of the task; what its cameras see is not rendered.
        episodes: to run, one after the other.
        seed: of the start states.

    Returns:
        ``episodes``, ``successes`` and ``mean_length``, the mean number of control steps of the successful ones.
    """
    task = dataclasses.replace(get_task(task_name), cameras={})
    env = TaskEnv(task)
    expert = task.make_expert(np.random.default_rng(seed))
    lengths = []
    try:
        for episode_seed in np.random.default_rng([seed, episodes]).integers(2**31, size=episodes).tolist():
            env.reset(seed=episode_seed)
            expert.reset()
            ended, steps, success = False, 0, False
            while not ended:
                *_, terminated, truncated, info = env.step(expert.act(*env.known()))
                ended, steps, success = terminated or truncated, steps + 1, info["success"]
            if success:
                lengths.append(steps)
    finally:
        env.close()
    mean = float(np.mean(lengths)) if lengths else 0.0
    return {"episodes": episodes, "successes": len(lengths), "mean_length": mean}


if __name__ == "__main__":
    print(json.dumps(evaluate_teacher(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
