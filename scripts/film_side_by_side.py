# SPDX-License-Identifier: Apache-2.0
"""Films a task's teacher, a policy that clones his demonstrations, and one that was learned, side by side.

    python scripts/film_side_by_side.py TASK RUN_OF_BC RUN

writes docs/images/TASK.webp: the same starts, which no training has seen, one after the other.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from serl_cli.report.video import FILM, FIRST_SEED, PolicyActor
from serl_cli.run_config import read_run_config
from serl_launch.runs import Run
from serl_sim.envs import TaskEnv
from serl_sim.scene.scene import OVERVIEW

from serl_launch import runs

PICTURES = Path(__file__).resolve().parents[1] / "docs" / "images"
DRAWN = (720, 540)  # [pixels] of the whole scene
CROP = (330, 225, 640, 458)  # [pixels] of it that are shown: the tool and what it works on
SIZE = (264, 198)  # [pixels] of a panel
BAR = 22  # [pixels] above it, for who acts and how it ended
EPISODES = 5
HOLD = 8  # pictures that the end of an episode stays
WAITING, SUCCESS, FAILURE = (60, 60, 60), (24, 128, 60), (176, 40, 32)


class Teacher:
    """The task's scripted expert, on what it knows of the world."""

    def __init__(self, scene: TaskEnv) -> None:
        self.env: Any = scene
        self._expert = scene.task.make_expert(np.random.default_rng(FIRST_SEED))

    def begin(self) -> None:
        """An episode begins."""
        self._expert.reset()

    def act(self, _observation: Any) -> NDArray[np.float32]:
        """What the expert does next."""
        return self._expert.act(*self.env.known())


def view(scene: TaskEnv) -> Image.Image:
    """What happens, from near."""
    return Image.fromarray(scene.world.render(OVERVIEW, *DRAWN, FILM)).crop(CROP).resize(SIZE)


def episode(actor: Any, scene: TaskEnv, seed: int) -> tuple[list[Image.Image], bool]:
    """A picture of each state of an episode, and whether it succeeded."""
    observation, _ = actor.env.reset(seed=seed)
    actor.begin()
    pictures, over, success = [view(scene)], False, False
    while not over:
        observation, _, terminated, truncated, info = actor.env.step(actor.act(observation))
        pictures.append(view(scene))
        over, success = terminated or truncated, bool(info["success"])
    return pictures, success


def panel(picture: Image.Image, text: str, colour: tuple[int, int, int]) -> Image.Image:
    """One picture with a bar above it."""
    whole = Image.new("RGB", (SIZE[0], SIZE[1] + BAR), colour)
    whole.paste(picture, (0, BAR))
    ImageDraw.Draw(whole).text((6, 3), text, fill=(255, 255, 255), font_size=14)
    return whole


def of_run(run: Run, scene: TaskEnv) -> PolicyActor:
    """The newest policy of a run."""
    return PolicyActor(run, read_run_config(run).plan, scene)


def main(task: str, cloned: str, learned: str) -> None:
    """Writes docs/images/TASK.webp."""
    scenes = [TaskEnv(task) for _ in range(3)]
    root = runs.runs_root()
    actors = {
        "the teacher": Teacher(scenes[0]),
        "cloned": of_run(runs.find_run(root, cloned), scenes[1]),
        "learned": of_run(runs.find_run(root, learned), scenes[2]),
    }
    done = dict.fromkeys(actors, 0)
    film = []
    for number, seed in enumerate(range(FIRST_SEED, FIRST_SEED + EPISODES), start=1):
        played = [episode(actor, scene, seed) for actor, scene in zip(actors.values(), scenes, strict=True)]
        for moment in range(max(len(pictures) for pictures, _ in played) + HOLD):
            row = Image.new("RGB", (len(actors) * (SIZE[0] + 4) - 4, SIZE[1] + BAR), (255, 255, 255))
            for column, (name, (pictures, success)) in enumerate(zip(actors, played, strict=True)):
                over = moment >= len(pictures) - 1
                if moment == len(pictures) - 1:
                    done[name] += success
                colour = (SUCCESS if success else FAILURE) if over else WAITING
                text = f"{name}: {done[name]} of {number if over else number - 1}"
                row.paste(panel(pictures[min(moment, len(pictures) - 1)], text, colour), (column * (SIZE[0] + 4), 0))
            film.append(row)
    for scene in scenes:
        scene.close()
    period = round(1000 / scenes[0].metadata["render_fps"])  # [ms]
    film[0].save(
        PICTURES / f"{task}.webp", save_all=True, append_images=film[1:], duration=period, loop=0, quality=55, method=6
    )


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit("film_side_by_side.py: expected the name of a task, of a run of bc and of another run")
    main(*sys.argv[1:])
