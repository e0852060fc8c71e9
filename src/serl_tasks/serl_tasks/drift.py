# SPDX-License-Identifier: Apache-2.0
"""When a simulated person takes over from a policy that drifts, and when they give back.

A person watches how far the task still has to go. Once that has not become less for a while, or the episode has become
late, they take over after a moment, lead for about a second and let the policy try again.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class TakeoverRule:
    """Numbers of the rule, in control steps."""

    patience: int = 6
    """Steps without progress that are tolerated."""
    late: int = 25
    """Step of the episode after which patience is over."""
    probability: float = 0.5
    """Chance of a takeover in each step in which there is reason for one."""
    shortest_turn: int = 4
    longest_turn: int = 15

    def __post_init__(self) -> None:
        """Refuse numbers that are no rule."""
        if self.patience < 0 or self.late < 0:
            raise ValueError(f"takeover rule: patience and late must not be negative, found {self}")
        if not 0.0 <= self.probability <= 1.0:
            raise ValueError(f"takeover rule: probability must be in [0, 1], found {self.probability}")
        if not 1 <= self.shortest_turn <= self.longest_turn:
            raise ValueError(f"takeover rule: expected 1 <= shortest_turn <= longest_turn, found {self}")


class DriftMonitor:
    """Decides for each control step of an episode whether the person leads."""

    PROGRESS = 0.002
    """Least decrease of the distance [m] that counts as progress."""

    def __init__(self, rng: np.random.Generator, rule: TakeoverRule | None = None) -> None:
        """Draw from `rng` whether and for how long to take over."""
        self._rng = rng
        self._rule = rule if rule is not None else TakeoverRule()
        self.reset()

    def reset(self) -> None:
        """Begin an episode: the policy leads."""
        self._step = 0
        self._turn = 0
        self._best = np.inf
        self._stalled = 0

    def leads(self, distance: float) -> bool:
        """Whether the person leads in this step. Call it once for each step.

        Args:
            distance: what the task still has to go [m], see :meth:`serl_tasks.Task.distance_to_goal`.
        """
        self._step += 1
        if self._turn > 0:
            self._turn -= 1
            if self._turn > 0:
                return True
            self._best, self._stalled = distance, 0
        if distance < self._best - self.PROGRESS:
            self._best, self._stalled = distance, 0
        else:
            self._stalled += 1
        reason = self._stalled > self._rule.patience or self._step > self._rule.late
        if reason and self._rng.random() < self._rule.probability:
            self._turn = int(self._rng.integers(self._rule.shortest_turn, self._rule.longest_turn + 1))
            return True
        return False
