# SPDX-License-Identifier: Apache-2.0
"""A short film of a policy in the simulated world, made without the graph."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import imageio.v2 as imageio
import numpy as np
from numpy.typing import NDArray
from serl_launch.errors import CommandError
from serl_launch.runs import Run
from serl_rl.backends import make_policy
from serl_rl.checkpoint import CheckpointError
from serl_rl.encoders.file import EncoderError
from serl_rl.imported.opening import PolicyError
from serl_rl.spec import DataError
from serl_sim.envs import TaskEnv
from serl_sim.rendering import Appearance, RenderError
from serl_sim.scene.scene import OVERVIEW
from serl_training.actor.perception import FrameStacker, make_perception
from serl_training.link.contract import find_policy, load_learning

from serl_cli.training_plan import TrainingPlan
from serl_rl import checkpoint
from serl_tasks import get_task

EPISODES = 5
SIZE = (320, 240)  # [pixels]
# Shadows help the eye to see depth, and cost a tenth of what the finest ones do.
FILM = Appearance(shadow_map=2048, samples=4, slices=24, stacks=12, backdrop=True)
HOLD = 0.5  # [s] that the last picture of an episode stays
FIRST_SEED = 2_000_000  # far from those that training counts from


def film_policy(run: Run, plan: TrainingPlan, path: Path, episodes: int = EPISODES) -> None:
    """Writes an MP4 of some episodes of the newest policy of a run, in the time of the simulated robot.

    Args:
        run: whose newest checkpoint is used.
        plan: of the run, as that of one task.
        path: of the MP4.
        episodes: to film.

    Raises:
        CommandError: there is no policy, no rendering on this machine, no room for the file, or the world is not ours.
    """
    if get_task(plan.task).kind == "gym":
        raise CommandError(
            f"{plan.task}: only worlds of config/worlds are filmed, and its world is a Gymnasium environment"
        )
    try:
        if checkpoint.latest(run.checkpoints) is None:
            raise CommandError(f"{run.checkpoints} has no checkpoint yet")
        write_video(path, _frames(run, plan, episodes), fps=TaskEnv.metadata["render_fps"])
    except (CheckpointError, DataError, EncoderError, PolicyError, RenderError) as error:
        raise CommandError(str(error)) from error


def write_video(path: Path, frames: Iterator[NDArray[np.uint8]], fps: float) -> None:
    """Writes RGB frames, uint8 (H, W, 3) each, as H.264 in an MP4 that appears when it is complete.

    Raises:
        CommandError: ffmpeg cannot write it.
    """
    part = path.with_name(f".part.{path.name}")
    try:
        with imageio.get_writer(part, format="FFMPEG", fps=fps, codec="libx264", quality=7) as writer:
            for frame in frames:
                writer.append_data(frame)  # type: ignore[attr-defined]
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise CommandError(f"{path} cannot be written: {error}") from error


class PolicyActor:
    """A policy that acts in a world, on what it perceives there.

    Attributes:
        env: the world, with the observations that the policy is given.
    """

    def __init__(self, run: Run, plan: TrainingPlan, scene: TaskEnv) -> None:
        """Load the newest policy of a run, and the imported one that it improves, if it does.

        Raises:
            CommandError: the run has no checkpoint yet.
            CheckpointError, DataError, EncoderError, PolicyError: what is stored cannot be used, or not with this task.
        """
        newest = checkpoint.latest(run.checkpoints)
        if newest is None:
            raise CommandError(f"{run.checkpoints} has no checkpoint yet")
        config = load_learning(str(run.learning_file.absolute()), scene.task)
        base = find_policy(plan.from_policy, plan.mapping, scene.task, config, simulated=True)
        perception = make_perception(scene.task, config, seed=0, simulated=True, base=base)
        self.env = perception.wrap(scene)
        self._stack = FrameStacker(perception.spec)
        self._policy = make_policy(checkpoint.load_policy(newest), perception.weights, config.backend)
        self._policy.check(perception.spec)

    def begin(self) -> None:
        """An episode begins."""
        self._stack.reset()
        self._policy.reset()

    def act(self, observation: Any) -> NDArray[np.float32]:
        """The action (A,) that the policy thinks best."""
        return self._policy.act(self._stack(observation), deterministic=True)


def _frames(run: Run, plan: TrainingPlan, episodes: int) -> Iterator[NDArray[np.uint8]]:
    scene = TaskEnv(plan.task)
    try:
        scene.reset(seed=FIRST_SEED)
        # The first picture starts ffmpeg, which must not be forked from a process with JAX's threads.
        yield scene.world.render(OVERVIEW, *SIZE, FILM)
        actor = PolicyActor(run, plan, scene)
        for seed in range(FIRST_SEED, FIRST_SEED + episodes):
            observation, _ = actor.env.reset(seed=seed)
            actor.begin()
            over = False
            while not over:
                yield scene.world.render(OVERVIEW, *SIZE, FILM)
                observation, _, terminated, truncated, _ = actor.env.step(actor.act(observation))
                over = terminated or truncated
            last = scene.world.render(OVERVIEW, *SIZE, FILM)
            for _ in range(max(1, round(HOLD * scene.metadata["render_fps"]))):
                yield last
    finally:
        scene.close()
