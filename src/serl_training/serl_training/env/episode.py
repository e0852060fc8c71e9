# SPDX-License-Identifier: Apache-2.0
"""What an episode is for, which start state it has, and how it gets lost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

Observation = dict[str, NDArray[Any]]
"""One observation, by the names of the task's observation space; arrays without a batch axis."""


class EpisodeLost(RuntimeError):
    """The running episode cannot be finished; a new one may work."""


class EpisodeLeft(EpisodeLost):
    """The running episode is not to go on, as a person or the settings want it; however often, nothing is wrong."""


class EpisodeDiscarded(EpisodeLeft):
    """A person does not want the newest steps of the episode, or all of it, to be learned from either."""

    def __init__(self, reason: str, steps: int | None = None) -> None:
        """Say why.

        Args:
            reason: in words.
            steps: the newest ones, that are void; None: all.
        """
        super().__init__(reason)
        self.steps = steps

    def first_void(self, length: int) -> int:
        """The first step that is void, of an episode that had `length` steps."""
        return 0 if self.steps is None else max(0, length - self.steps)


class WorldBroken(EpisodeLost):
    """The world of the running episode is none any more: nothing of the episode is worth learning from."""


class EpisodeMode(IntEnum):
    """What an episode is for, in the numbers of serl_interfaces/EpisodeStatus; a person acts accordingly."""

    DEMONSTRATION = 1
    TRAINING = 2
    EVALUATION = 3


@dataclass(frozen=True)
class EpisodeStart:
    """Which episode an environment is asked to start."""

    mode: EpisodeMode
    number: int
    """The number under which its transitions are stored."""
    seed: int
    """The seed of its start state."""
    human_expected: bool = False
    """Whether a synchronous person (the scripted one) answers each of its steps."""
    task: str = ""
    """Which of the tasks of a pair it is of; empty: the environment has one."""

    @property
    def options(self) -> dict[str, Any]:
        """The options that `reset` of the environment is given."""
        one_of_a_pair = {"task": self.task} if self.task else {}
        return {"mode": self.mode, "episode": self.number, "human_expected": self.human_expected} | one_of_a_pair


def episode_seeds(seed: int, purpose: str) -> Iterator[int]:
    """Endless start-state seeds for one purpose; different purposes never share a stream."""
    generator = np.random.default_rng([seed, *purpose.encode()])
    while True:
        yield int(generator.integers(2**31))


def episode_seed(seed: int, purpose: str, episode: int) -> int:
    """The start-state seed of one numbered episode, the same after a restart."""
    return int(np.random.default_rng([seed, episode, *purpose.encode()]).integers(2**31))


def arm_demonstrations_seed(seed: int, arm: str) -> int:
    """The seed of the demonstrations that one arm of a fleet records, of the seed of all."""
    return episode_seed(seed, f"demonstrations/{arm}", 0)
