# SPDX-License-Identifier: Apache-2.0
"""Which update is due, given what is stored. Knows no thread and no clock."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from serl_rl.config import LearningConfig


@dataclass(frozen=True)
class Pace:
    """How training keeps step with the data."""

    coupled: bool = True
    """Train once for each online env step, no more; otherwise train without end on what there is."""
    n_steps: int = 8
    """Env steps' worth of updates in one compiled call."""
    checkpoint_period: float = 20.0
    """Time between checkpoints [s]."""


class Due(Enum):
    """What the training thread is to do next."""

    NOTHING = auto()
    """Wait for data."""
    COLLECTED = auto()
    """Pass over env steps that come before any training or were all discarded, so that the actor is not held up."""
    REHEARSAL = auto()
    """Update on the demonstrations, before the policy acts."""
    TRAINING = auto()
    """Update on demonstrations and online data."""


class UpdateSchedule:
    """Counts updates and says when the next ones are due, `n_steps * utd_ratio` at once.

    Attributes:
        trained: online env steps that are trained for.
        rehearsed: updates on demonstrations alone.
    """

    def __init__(self, config: LearningConfig, pace: Pace) -> None:
        """Begin with no updates."""
        self._config, self._pace = config, pace
        self.trained = self.rehearsed = 0

    @property
    def updates(self) -> int:
        """All updates that were made, env steps that were passed over counted as trained."""
        return self.rehearsed + self.trained * self._config.utd_ratio

    @property
    def next_update_at(self) -> int:
        """Online env steps with which updates go on; 0 where they wait for none."""
        if not self._pace.coupled:
            return 0
        return max(self.trained + self._pace.n_steps, self._config.training_starts)

    def due(self, stored: int, *, asked: bool, has_data: bool = True) -> Due:
        """What to do next.

        Args:
            stored: online env steps.
            asked: whether an actor has no more demonstrations and waits for a policy.
            has_data: whether a person has left anything of what was stored to learn from.
        """
        if asked and has_data and self.rehearsed < self._config.updates_before_acting:
            return Due.REHEARSAL
        coupled = self._pace.coupled
        if stored < self._config.training_starts or not has_data:
            return Due.COLLECTED if coupled and self.trained < stored else Due.NOTHING
        ready = stored - self.trained >= self._pace.n_steps if coupled else stored > 0
        return Due.TRAINING if ready else Due.NOTHING

    def done(self, due: Due, stored: int) -> None:
        """Count what was due when there were `stored` online env steps, and has been done."""
        if due is Due.COLLECTED:
            self.trained = stored
        elif due is Due.REHEARSAL:
            self.rehearsed += self._pace.n_steps * self._config.utd_ratio
        elif due is Due.TRAINING:
            self.trained += self._pace.n_steps
