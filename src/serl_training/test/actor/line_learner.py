# SPDX-License-Identifier: Apache-2.0
"""Whom an actor works with in these tests: a learner of where to go on a line, and a host of jobs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from serl_rl.storage.chunk import Chunk
from serl_training.actor.job import Cancelled, TrainGoal
from serl_training.link.learner_link import LearnerTotals

GOAL = TrainGoal(demonstrations=3, max_env_steps=500, eval_every=50, eval_episodes=20, success_goal=0.95, seed=0)


def no_feedback(*_: object) -> None:
    """Takes what a job tells meanwhile."""


class Policy:
    """Goes on by `value` in each step."""

    planned = 0

    def __init__(self, value: float) -> None:
        self.value = value

    def reset(self) -> None:
        """Nothing is remembered."""

    def act(self, observation: dict, *, deterministic: bool, rng: np.random.Generator | None = None) -> np.ndarray:
        """The action (1,), whatever is seen."""
        return np.array([self.value], np.float32)


class Memory:
    """A learner whose policy goes where `direction` says, once it has stored enough; it stands still before."""

    lag = 0
    policy_version = 1

    def __init__(self, good_after: int, direction: float = 1.0) -> None:
        self.good_after, self.direction = good_after, direction
        self.chunks: list[Chunk] = []
        self.connected = False
        self.awaited: tuple[int, int] | None = None
        """The updates that were waited for, and the chunks that it had then."""

    @property
    def totals(self) -> LearnerTotals:
        """What is stored."""
        online = [chunk for chunk in self.chunks if not chunk.demonstration]
        return LearnerTotals(
            sum(map(len, online)),
            sum(chunk.last for chunk in self.chunks if chunk.demonstration),
            max((chunk.episode for chunk in self.chunks), default=0),
        )

    @property
    def policy(self) -> Policy:
        """The policy of this moment."""
        return Policy(self.direction if self.totals.env_steps >= self.good_after else 0.0)

    def connect(self) -> None:
        """Only then does it take anything."""
        self.connected = True

    def send(self, chunk: Chunk) -> None:
        """Store."""
        assert self.connected
        self.chunks.append(chunk)

    def discard(self, episode: int, first_step: int) -> None:
        """Forget, as a learner's buffers do."""
        left = [chunk.before(first_step) if chunk.episode == episode else chunk for chunk in self.chunks]
        self.chunks = [chunk for chunk in left if chunk is not None]

    def throttle(self) -> None:
        """Never has to be waited for."""

    def settle(self, env_steps: int = 0) -> None:
        """Has learned everything already."""

    def await_updates(self, count: int) -> None:
        """Remember what was waited for."""
        self.awaited = (count, len(self.chunks))

    def flush(self) -> None:
        """Has stored everything already."""


class Host:
    """Lets an actor go on, unless `check` raises, and keeps what it reports."""

    def __init__(self, check: Callable[[], None] = lambda: None, end: Callable[[], None] = lambda: None) -> None:
        self.check, self.end_episode = check, end
        self.reports: list[dict[str, float]] = []
        self.concerns: list[tuple[str, str]] = []

    def report(self, env_steps: int, values: dict[str, float]) -> None:
        """Keep `values`."""
        self.reports.append(values)

    def mind(self, component: str, concern: str) -> None:
        """Keep `concern`."""
        self.concerns.append((component, concern))

    def wait_until_ready(self) -> None:
        """Is ready."""


def cancel_after(checks: int) -> Callable[[], None]:
    """A check that a host makes, which raises `Cancelled` when it is called more often than that."""
    left = iter(range(checks))

    def check() -> None:
        if next(left, None) is None:
            raise Cancelled

    return check
