# SPDX-License-Identifier: Apache-2.0
"""Draws moments of an episode that a task's expert does, for docs/tasks.md: ``python scripts/draw_task.py TASK``."""

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from serl_sim.envs import TaskEnv

PICTURES = Path(__file__).resolve().parents[1] / "docs" / "images"
SIZE = (400, 300)  # [pixels] of a moment
MOMENTS = 4
SEED = 5


def episode(env: TaskEnv) -> list[NDArray[np.uint8]]:
    """A picture of each state of an episode, uint8 (H, W, 3)."""
    expert = env.task.make_expert(np.random.default_rng(SEED))
    env.reset(seed=SEED)
    expert.reset()
    found, ended = [_picture(env)], False
    while not ended:
        *_, terminated, truncated, _ = env.step(expert.act(*env.known()))
        ended = terminated or truncated
        found.append(_picture(env))
    return found


def _picture(env: TaskEnv) -> NDArray[np.uint8]:
    picture = env.render()
    assert picture is not None  # it renders
    return picture


def main(task: str) -> None:
    """Writes docs/images/TASK.png."""
    env = TaskEnv(task, render_mode="rgb_array", render_size=SIZE)
    pictures = episode(env)
    env.close()
    chosen = np.linspace(0, len(pictures) - 1, MOMENTS).round().astype(int)
    row = np.concatenate([pictures[index] for index in chosen], axis=1)
    Image.fromarray(row).quantize(128).save(PICTURES / f"{task}.png", optimize=True)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("draw_task.py: expected the name of a task")
    main(sys.argv[1])
