# SPDX-License-Identifier: Apache-2.0
"""How fast the simulated world is."""

import time

import numpy as np
from serl_sim.envs import TaskEnv


def env_steps_per_s(task: str = "pick_cube", *, steps: int = 1000, seed: int = 0) -> float:
    """Environment steps in a second of one process, with random actions, resets included.

    Args:
        task: name of a registered task.
        steps: to take.
        seed: of episodes and actions.
    """
    env = TaskEnv(task)
    env.action_space.seed(seed)
    actions = np.array([env.action_space.sample() for _ in range(steps)])
    env.reset(seed=seed)
    started = time.perf_counter()
    for action in actions:
        _, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            env.reset()
    elapsed = time.perf_counter() - started
    env.close()
    return steps / elapsed


def main() -> None:
    """Print the rates with and without cameras."""
    print(f"state:       {env_steps_per_s():7.0f} env steps/s")
    print(f"two cameras: {env_steps_per_s('pick_cube_vision', steps=300):7.0f} env steps/s")


if __name__ == "__main__":
    main()
