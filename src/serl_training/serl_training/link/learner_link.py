# SPDX-License-Identifier: Apache-2.0
"""The learner as an actor sees it, whatever carries transitions and policies between the two."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from serl_rl.policy.acting_policy import ActingPolicy
from serl_rl.storage.chunk import Chunk


class JobFailed(RuntimeError):
    """A job of the actor cannot go on: says why and what to do."""


@dataclass(frozen=True)
class LearnerTotals:
    """What the learner has stored in this run, over all actors."""

    env_steps: int = 0
    """Online transitions."""
    demonstrations: int = 0
    """Successful demonstration episodes."""
    episodes: int = 0
    """The largest number of an episode; the next one is free."""


class LearnerLink(Protocol):
    """An actor's end of the link to a learner. What waits raises what ends the wait, see its implementation."""

    @property
    def totals(self) -> LearnerTotals:
        """What is stored or on its way, over all actors."""

    @property
    def policy(self) -> ActingPolicy:
        """The newest policy.

        Raises:
            JobFailed: none has arrived; `connect` waits for one.
        """

    @property
    def policy_version(self) -> int:
        """Version of the newest policy."""

    @property
    def lag(self) -> int:
        """Online env steps that the newest policy has not been trained for."""

    def connect(self) -> None:
        """Wait until the learner has told its totals and sent a policy."""

    def send(self, chunk: Chunk) -> None:
        """Hand over a chunk, without waiting; it arrives in order, exactly once.

        Raises:
            DataError: the chunk does not fit the specification.
            JobFailed: the learner has refused what was sent before.
        """

    def discard(self, episode: int, first_step: int) -> None:
        """Have the learner forget what was sent of an episode from a step on; the step before it was the last one."""

    def await_updates(self, count: int) -> None:
        """Tell the learner that demonstrations are complete; wait for a policy with `count` updates behind it."""

    def throttle(self) -> None:
        """Wait while the actor is too far ahead of the learner."""

    def settle(self, env_steps: int = 0) -> None:
        """Wait for the policy that stays until there are more env steps, than `env_steps` where others know of more.

        Where none ever stays, nothing is waited for.
        """

    def flush(self) -> None:
        """Wait until everything that was sent is acknowledged, which means: is on the learner's disk."""
