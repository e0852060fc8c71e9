# SPDX-License-Identifier: Apache-2.0
"""What a fleet of actors has to do, in parts that any of them may take; no ROS."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from serl_rl.success_rate import out_of_reach, wilson_interval

from serl_training.actor.job import EvaluationResult

MOST_PARTS = 4
"""Parts of an evaluation for each actor: an arm that is slow takes fewer of them."""


class Work(Protocol):
    """What the arms do together. A part is whatever the work hands out, and is told by itself what came of it."""

    def take(self, arm: str) -> Any:
        """The next part for an arm that is free; None: there is none for it now."""

    def done(self, arm: str, part: Any, result: Any) -> None:
        """An arm has done a part; `result` is that of its action."""

    def give_back(self, arm: str, part: Any) -> None:
        """An arm is gone, or has failed, with a part that others may take."""

    def is_over(self, busy: set[str], waiting: set[str]) -> bool:
        """Whether the whole is done.

        Args:
            busy: arms that have a part.
            waiting: those of them that wait for a person.
        """


@dataclass(frozen=True)
class Span:
    """Episodes of an evaluation: `count` of them from number `first` on, in the row of starts that its seed gives."""

    first: int
    count: int


class SharedEvaluation:
    """An evaluation of which each arm takes a few episodes at a time; what is lost with one is taken by another."""

    def __init__(self, episodes: int, arms: int, stop_below: float = 0.0) -> None:
        """Divide `episodes` for so many arms; `stop_below` as in the Evaluate action."""
        self._episodes, self._stop_below = episodes, stop_below
        size = max(1, -(-episodes // (MOST_PARTS * max(1, arms))))
        self._left = deque(Span(first, min(size, episodes - first)) for first in range(0, episodes, size))
        self._held: dict[str, Span] = {}
        self._lent: set[Span] = set()
        self._results: dict[Span, Any] = {}

    def take(self, arm: str) -> Span | None:
        """The next episodes; where all are given out, those of an arm that waits, see `lend`."""
        if self._left:
            self._held[arm] = self._left.popleft()
            return self._held[arm]
        return None

    def lend(self, arm: str) -> None:
        """Let others take what an arm has that waits for a person: whoever is first with it counts."""
        span = self._held.get(arm)
        if span is not None and not self._left and span not in self._results and span not in self._lent:
            self._lent.add(span)
            self._left.append(span)

    def done(self, arm: str, part: Span, result: Any) -> None:
        """Keep the first result of a part."""
        self._held.pop(arm, None)
        self._results.setdefault(part, result)
        if part in self._left:
            self._left.remove(part)

    def give_back(self, arm: str, part: Span) -> None:
        """Let another arm run these episodes."""
        self._lent.discard(part)
        self._held.pop(arm, None)
        if part not in self._results and part not in self._left and part not in self._held.values():
            self._left.append(part)

    def is_over(self, _busy: set[str], waiting: set[str]) -> bool:
        """Whether every episode has a result, or the wanted rate is out of reach."""
        for arm in waiting:
            self.lend(arm)
        return self.episodes == self._episodes or self._is_hopeless()

    def _is_hopeless(self) -> bool:
        return self._stop_below > 0.0 and out_of_reach(self.successes, self.episodes, self._episodes, self._stop_below)

    @property
    def episodes(self) -> int:
        """Those that were run."""
        return sum(result.episodes for result in self._results.values())

    @property
    def successes(self) -> int:
        """Those of them that succeeded."""
        return sum(result.successes for result in self._results.values())

    def joined(self) -> EvaluationResult:
        """The result of the whole, as one arm would have it. `policy_version` is the oldest of the parts'."""
        results, successes = list(self._results.values()), self.successes
        steps = sum(result.mean_length * result.successes for result in results)
        return EvaluationResult(
            episodes=self.episodes,
            successes=successes,
            interval=wilson_interval(successes, self.episodes),
            mean_length=steps / successes if successes else 0.0,
            policy_version=min((result.policy_version for result in results), default=0),
            complete=self.episodes == self._episodes,
            discarded=sum(result.discarded for result in results),
        )


class SharedCollection:
    """Training episodes until the run has so many env steps: every arm collects, whoever comes later, too."""

    def __init__(self, target: int) -> None:
        """Collect until the run has `target` env steps."""
        self.target = target
        self.env_steps = 0

    def take(self, _arm: str) -> int | None:
        """The number of env steps to collect until; None once they are there."""
        return self.target if self.env_steps < self.target else None

    def done(self, _arm: str, _part: int, result: Any) -> None:
        """Hear from an arm how many env steps the run has."""
        self.env_steps = max(self.env_steps, result.env_steps)

    def give_back(self, arm: str, part: int) -> None:
        """Nothing is lost: others collect on."""

    def is_over(self, busy: set[str], waiting: set[str]) -> bool:
        """Whether the env steps are there, and only arms that wait for a person have an episode left."""
        return self.env_steps >= self.target and busy <= waiting


class SharedDemonstrations:
    """Demonstrations, one for an arm at a time, until there are so many."""

    def __init__(self, missing: int, recorded: Callable[[int, int], None] = lambda _successes, _attempts: None) -> None:
        """Have `missing` demonstrations recorded; `recorded` is told how many there are, and attempts."""
        self.successes = self.attempts = self.transitions = 0
        self._recorded = recorded
        self.missing, self._out = missing, set[str]()

    def take(self, arm: str) -> int | None:
        """One demonstration; None while others are at the last ones."""
        if self.successes + len(self._out) >= self.missing:
            return None
        self._out.add(arm)
        return 1

    def done(self, arm: str, _part: int, result: Any) -> None:
        """Count what an arm has recorded."""
        self._out.discard(arm)
        self.successes += result.episodes
        self.attempts += result.attempts
        self.transitions += result.transitions
        self._recorded(self.successes, self.attempts)

    def give_back(self, arm: str, _part: int) -> None:
        """Let another arm record it."""
        self._out.discard(arm)

    def is_over(self, _busy: set[str], _waiting: set[str]) -> bool:
        """Whether there are enough."""
        return self.successes >= self.missing
