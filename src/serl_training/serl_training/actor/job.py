# SPDX-License-Identifier: Apache-2.0
"""What an actor is asked to do and what came of it, and who it answers to meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from serl_training.env.episode import episode_seed


class Cancelled(Exception):
    """The job was cancelled or the process is asked to end."""


class JobHost(Protocol):
    """Who runs an actor's jobs: knows whether they may go on, and takes what they report."""

    def report(self, env_steps: int, values: dict[str, float]) -> None:
        """Take named numbers, as they were after `env_steps` of the run."""

    def mind(self, component: str, concern: str) -> None:
        """Take what is not as it should be about `component` and needs no end of the job; empty: all is well."""

    def check(self) -> None:
        """Look whether to go on; called before each step.

        Raises:
            Cancelled: the job is to end.
            EpisodeLost: the episode is to be left.
        """

    def wait_until_ready(self) -> None:
        """Wait until the arm may move; called before each episode.

        Raises:
            Cancelled: the job is to end.
        """

    def end_episode(self) -> None:
        """Called when an episode has ended by itself, before anything comes of it.

        Raises:
            EpisodeDiscarded: a person has discarded it, or its end, meanwhile.
        """


MAX_CONFIRMATIONS = 100


@dataclass(frozen=True)
class TrainGoal:
    """What `Actor.train` should reach; fields as in the Train action.

    Raises:
        ValueError: a number is out of its range.
    """

    demonstrations: int
    max_env_steps: int
    eval_every: int
    eval_episodes: int
    """0: none; whoever asks evaluates."""
    success_goal: float
    seed: int
    confirmations: int = 0

    def __post_init__(self) -> None:
        if self.max_env_steps < 1 or self.eval_every < 1 or self.eval_episodes < 0:
            raise ValueError("train: max_env_steps and eval_every must be at least 1, eval_episodes at least 0")
        if not 0.0 <= self.success_goal <= 1.0:
            raise ValueError(f"train: success_goal must be in [0, 1], found {self.success_goal}")
        if self.seed < 0:
            raise ValueError(f"train: expected a seed from 0, found {self.seed}")
        if not 0 <= self.confirmations <= MAX_CONFIRMATIONS:
            raise ValueError(f"train: confirmations must be in [0, {MAX_CONFIRMATIONS}], found {self.confirmations}")

    def evaluation_seeds(self, env_steps: int) -> tuple[int, ...]:
        """Seeds of the evaluations after so many env steps, each with its own starts; all have to reach the goal.

        The first one that does among many flatters: it was also lucky. What confirms it was not chosen for that.
        """
        purposes = ("evaluation", *(f"confirmation {number}" for number in range(self.confirmations)))
        return tuple(episode_seed(self.seed, purpose, env_steps) for purpose in purposes)


@dataclass(frozen=True)
class TrainResult:
    """How training ended."""

    reached: bool
    env_steps: int
    env_steps_to_goal: int
    """0 when the goal was not reached."""
    success_rate: float
    wall_seconds: float


@dataclass(frozen=True)
class EvaluationResult:
    """Successes of the deterministic policy; the interval is Wilson's, 95 %."""

    episodes: int
    successes: int
    interval: tuple[float, float]
    mean_length: float
    """Steps of the successful episodes, on average; 0 where there is none."""
    policy_version: int
    complete: bool
    """False when it was stopped because the wanted rate was out of reach."""
    discarded: int = 0
    """Episodes that a person discarded, which were run again: who discards what fails flatters the policy."""

    @property
    def rate(self) -> float:
        """Share of successful episodes."""
        return self.successes / max(1, self.episodes)

    def numbers(self) -> dict[str, float]:
        """What is reported of it, under the names of metrics."""
        return {
            "eval/success_rate": self.rate,
            "eval/interval_low": self.interval[0],
            "eval/interval_high": self.interval[1],
            "eval/mean_length": self.mean_length,
            "eval/episodes": float(self.episodes),
            "eval/discarded": float(self.discarded),
        }


class RecordResult(NamedTuple):
    """How many demonstrations were recorded."""

    successes: int
    attempts: int
    transitions: int
    """Transitions of the successful episodes."""


def demonstrations_stage(
    feedback: Callable[[str, int, float], None], wanted: int, env_steps: int
) -> Callable[[int, int], None]:
    """Feedback of a recording as that of the training that it is for: how many of the `wanted` ones there are.

    Args:
        feedback: takes the stage, the env steps of the run and a success rate, which is 0 before anything is learned.
        wanted: demonstrations.
        env_steps: of the run so far.
    """

    def recorded(done: int, attempts: int) -> None:
        feedback(f"demonstrations {done} of {wanted} in {attempts} attempts", env_steps, 0.0)

    feedback("demonstrations", env_steps, 0.0)
    return recorded
