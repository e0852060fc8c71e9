# SPDX-License-Identifier: Apache-2.0
"""A picture of a task that the scripted expert has just done, as the README has one.

    python -m serl_sim.pictures.readme_picture FILE [TASK]

FILE is written, TASK is pick_cube where none is named.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from serl_sim.envs import TaskEnv
from serl_sim.rendering import STUDIO
from serl_sim.scene.scene import OVERVIEW

_DRAWN = (1280, 960)  # [pixels]


def take_picture(path: Path, *, task: str = "pick_cube", seed: int = 6) -> None:
    """Let the expert do the task and save what that looks like, a quarter smaller than it was drawn."""
    env = TaskEnv(task)
    expert = env.task.make_expert(np.random.default_rng(seed))
    env.reset(seed=seed)
    done = False
    while not done:
        _, _, terminated, truncated, _ = env.step(expert.act(*env.known()))
        done = terminated or truncated
    pixels = env.world.render(OVERVIEW, *_DRAWN, STUDIO)
    env.close()
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).resize((_DRAWN[0] * 3 // 4, _DRAWN[1] * 3 // 4), Image.Resampling.LANCZOS).save(path)


if __name__ == "__main__":
    if not 2 <= len(sys.argv) <= 3:
        sys.exit("usage: python -m serl_sim.pictures.readme_picture FILE [TASK]")
    take_picture(Path(sys.argv[1]), task=sys.argv[2] if len(sys.argv) == 3 else "pick_cube")
