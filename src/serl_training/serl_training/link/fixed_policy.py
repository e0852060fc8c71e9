# SPDX-License-Identifier: Apache-2.0
"""In place of a learner: one policy that stays as it is. It is evaluated, and nothing is learned."""

from __future__ import annotations

from serl_rl.policy.acting_policy import ActingPolicy
from serl_rl.storage.chunk import Chunk

from serl_training.link.learner_link import JobFailed, LearnerTotals


class FixedPolicy:
    """A `LearnerLink` without a learner.

    Attributes:
        policy: that acts.
        policy_version: always 1.
        lag: always 0.
        backlog: always 0.
        totals: nothing is stored.
        session: empty, as nothing is sent.
        acknowledged: always 0.
    """

    policy_version = 1
    lag = 0
    backlog = 0
    session = ""
    acknowledged = 0

    def __init__(self, policy: ActingPolicy) -> None:
        """Act by `policy`."""
        self.policy = policy
        self.totals = LearnerTotals()

    def connect(self) -> None:
        """There is nothing to wait for."""

    def send(self, chunk: Chunk) -> None:
        """Refuse a chunk. Raises JobFailed: nobody learns from it."""
        raise JobFailed(
            "an imported policy acts, and nobody learns: to improve it, choose settings with sac.improve "
            "(./serl train TASK --from-policy KIND:PATH)"
        )

    def discard(self, episode: int, first_step: int) -> None:
        """Nothing was stored."""

    def await_updates(self, count: int) -> None:
        """Refuse to wait for learning. Raises JobFailed."""
        raise JobFailed(f"an imported policy acts, and nobody makes the {count} updates that were asked for")

    def throttle(self) -> None:
        """Nobody is behind."""

    def settle(self, env_steps: int = 0) -> None:
        """The policy stays."""

    def flush(self) -> None:
        """Nothing was sent."""
