# SPDX-License-Identifier: Apache-2.0
"""Numbers of episodes: those that are stored are counted over the whole run, others stay clear of them."""

from __future__ import annotations

from collections.abc import Sequence

from serl_training.link.learner_link import LearnerLink

ACTOR_ID = "actor_0"
"""Name under which the transitions of an actor are stored that is by itself; an arm of a fleet has its own."""

FIRST_EVALUATION = 2**40
"""Number of the first evaluation episode: those are not stored, and stay clear of those that are."""


class EpisodeNumbers:
    """Numbers of the episodes of one environment, whose transitions go to one or several learners."""

    def __init__(self, learners: Sequence[LearnerLink]) -> None:
        """Count behind what `learners` have stored."""
        self._learners = learners
        self._evaluation = FIRST_EVALUATION - 1
        self._attempt = 0

    def next_stored(self) -> int:
        """The number of an episode that is stored: one more than the largest that any learner has."""
        return 1 + max(learner.totals.episodes for learner in self._learners)

    def next_attempt(self) -> int:
        """Give an attempt a number: free as `next_stored`, and not that of an attempt of which nothing was stored."""
        self._attempt = max(self.next_stored(), self._attempt + 1)
        return self._attempt

    def next_evaluation(self) -> int:
        """The number of an evaluation episode."""
        self._evaluation += 1
        return self._evaluation
