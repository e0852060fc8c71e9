# SPDX-License-Identifier: Apache-2.0
"""Episodes of a policy in the simulated world, without the graph: what it saw and did, and how often it succeeded."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from serl_launch.errors import CommandError
from serl_launch.runs import Run
from serl_rl.encoders.robot_pictures import PictureEpisode
from serl_rl.policy.acting_policy import ActingPolicy
from serl_sim.envs import TaskEnv
from serl_training.link.contract import find_policy, load_learning, without_base

from serl_cli.report.video import PolicyActor
from serl_cli.training_plan import TrainingPlan
from serl_tasks import Task, get_task


class WatchedEnv(TaskEnv):
    """A world that remembers what was seen and done in its episode."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self._seen: list[dict[str, NDArray[Any]]] = []
        self._done: list[NDArray[np.float32]] = []

    def reset(self, **options: Any) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Start an episode, as `TaskEnv.reset`; what was remembered is forgotten."""
        observation, info = super().reset(**options)
        self._seen, self._done = [observation], []
        return observation, info

    def step(self, action: NDArray[np.float32]) -> tuple[dict[str, NDArray[Any]], float, bool, bool, dict[str, Any]]:
        """Act by a normalised action (A,), as `TaskEnv.step`."""
        made = super().step(action)
        self._seen.append(made[0])
        self._done.append(np.asarray(made[4]["executed_action"], np.float32))
        return made

    def meant(self, action: NDArray[np.float32]) -> None:
        """What was to be done in the last step, (A,), stands in the place of what was done."""
        self._done[-1] = np.asarray(np.clip(action, -1, 1), np.float32)

    def episode(self) -> PictureEpisode:
        """What there was so far, of n moments and n - 1 actions that were executed or meant."""
        pictures = {name: np.stack([each[name] for each in self._seen]) for name in self.task.cameras}
        return PictureEpisode(pictures, np.stack([each["state"] for each in self._seen]), np.stack(self._done))


class Acting(Protocol):
    """What acts in a world."""

    env: Any
    """The world, with the observations that it takes."""

    def begin(self) -> None:
        """An episode begins."""

    def act(self, observation: Any) -> NDArray[np.float32]:
        """The action (A,)."""


class Imported:
    """A policy that acts on what the task itself observes."""

    def __init__(self, policy: ActingPolicy, env: TaskEnv) -> None:
        self.env, self._policy = env, policy

    def begin(self) -> None:
        """An episode begins."""
        self._policy.reset()

    def act(self, observation: Any) -> NDArray[np.float32]:
        """The action (A,) that the policy thinks best."""
        return self._policy.act(observation, deterministic=True)


@dataclass(frozen=True)
class Rollouts:
    """What episodes have given."""

    successes: list[PictureEpisode]
    """Those that succeeded."""
    episodes: int
    """All that were run."""

    @property
    def rate(self) -> float:
        """Share that succeeded, in [0, 1]."""
        return len(self.successes) / self.episodes


def roll_out(
    acting: Acting, world: WatchedEnv, seeds: Sequence[int], wanted: int | None = None, noise: float = 0.0
) -> Rollouts:
    """Run an episode from each start, until there are enough.

    Args:
        acting: what acts in `world`.
        world: remembers the episodes.
        seeds: of the starts.
        wanted: successes after which it ends; None: all starts are run.
        noise: standard deviation of what is added to each action in every second episode. What the policy meant to do
            is remembered, so that a policy which learns of it sees how to come back (DART, arXiv:1703.09327).
    """
    found: list[PictureEpisode] = []
    for count, seed in enumerate(seeds, 1):
        observation, _ = acting.env.reset(seed=seed)
        acting.begin()
        pushed = np.random.default_rng(seed) if noise and count % 2 == 0 else None
        over, info = False, {"success": False}
        while not over:
            action = acting.act(observation)
            done = action if pushed is None else _pushed(action, noise, pushed)
            observation, _, terminated, truncated, info = acting.env.step(done)
            if pushed is not None:
                world.meant(action)
            over = terminated or truncated
        if info["success"]:
            found.append(world.episode())
        if wanted is not None and len(found) >= wanted:
            return Rollouts(found, count)
    return Rollouts(found, len(seeds))


def _pushed(action: NDArray[np.float32], noise: float, rng: np.random.Generator) -> NDArray[np.float32]:
    return np.asarray(np.clip(action + noise * rng.standard_normal(action.shape), -1, 1), np.float32)


def of_run(run: Run, plan: TrainingPlan, world: WatchedEnv) -> Acting:
    """The newest policy of a run. Raises what `PolicyActor` does."""
    return PolicyActor(run, plan, world)


def of_reference(text: str, mapping: Path | None, world: WatchedEnv) -> Acting:
    """The policy that `KIND:PATH` names. Raises PolicyError where it is none for the task."""
    task = world.task
    config = without_base(load_learning("", task))
    policy = find_policy(text, str(mapping or ""), task, config, simulated=True)
    if policy is None:
        raise CommandError("expected a policy KIND:PATH, found none")
    return Imported(policy, world)


def watched(task: str) -> WatchedEnv:
    """The world of a task with cameras. Raises CommandError where it has none, or is not one of our simulation."""
    found = get_task(task)
    if not found.cameras:
        raise CommandError(f"{task} has no cameras, and ACT looks at pictures: take one with _vision in its name")
    if found.kind == "gym":
        raise CommandError(f"{task}: its world is a Gymnasium environment; expected one of config/worlds")
    return WatchedEnv(found)
