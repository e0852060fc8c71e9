# SPDX-License-Identifier: Apache-2.0
"""Numbers about a recording, and what is wrong with it, in one pass over its episodes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from serl_recording.episode import NANOSECONDS, Episode, RecordingSpec

SATURATED: Final = 0.999
"""An action of at least this magnitude is at its bound."""
MOSTLY: Final = 0.9
"""Share of saturated actions above which a component is told of."""
FROZEN_SECONDS: Final = 1.0
"""[s] that a camera has to show the same picture, while the state changes, to be frozen."""
LEAST_FROZEN: Final = 5
"""[frames] the same, at low rates."""
DROPPED: Final = 1.5
"""[control periods] between two observations, from which on one was dropped."""
JUMP_SECONDS: Final = 1.0
"""[s] between two observations, from which on the clock has jumped, or somebody has paused."""
RATE_TOLERANCE: Final = 0.1
_TWO: Final = 2


@dataclass
class Extent:
    """Smallest and largest value of each component so far; (k,) each."""

    low: NDArray[np.float64]
    high: NDArray[np.float64]

    @classmethod
    def empty(cls, size: int) -> Extent:
        """The extent of no value at all."""
        return cls(np.full(size, np.inf), np.full(size, -np.inf))

    def add(self, rows: NDArray[Any]) -> None:
        """Take rows (n, k) in."""
        self.low = np.minimum(self.low, rows.min(axis=0))
        self.high = np.maximum(self.high, rows.max(axis=0))


@dataclass
class Survey:
    """What one pass over a recording has seen so far.

    lengths: [steps] of each episode
    stamped: episodes whose stamps were measured
    successes, demonstrations, terminated, truncated: episodes
    led: steps in which a person led
    saturated: (A,) steps in which a component of the action was at a bound
    returns: sum of the rewards of each episode
    intervals: [s] medians between observations, of stamped episodes
    findings: one line for each thing that is wrong
    """

    spec: RecordingSpec
    lengths: list[int] = field(default_factory=list)
    returns: list[float] = field(default_factory=list)
    intervals: list[float] = field(default_factory=list)
    stamped: int = 0
    successes: int = 0
    demonstrations: int = 0
    terminated: int = 0
    truncated: int = 0
    led: int = 0
    findings: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        size = self.spec.transitions.action_dim
        entries = self.spec.transitions.observation
        self.actions = Extent.empty(size)
        self.saturated: NDArray[np.int64] = np.zeros(size, np.int64)
        self._values: list[set[float]] = [set() for _ in range(size)]
        self.vectors = {name: Extent.empty(entries[name].elements) for name in self.spec.transitions.vector_names}
        self._seen: set[tuple[str, int]] = set()

    @property
    def two_valued(self) -> NDArray[np.bool_]:
        """(A,) components that had no more than two values, as those of many grippers."""
        return np.array([len(values) <= _TWO for values in self._values])

    @property
    def steps(self) -> int:
        """Steps of all episodes."""
        return sum(self.lengths)

    def add(self, episode: Episode) -> None:
        """Take an episode in."""
        self.lengths.append(len(episode))
        self.returns.append(float(episode.reward.sum()))
        self.stamped += episode.stamped
        self.successes += episode.success
        self.demonstrations += episode.demonstration
        self.terminated += episode.terminated
        self.truncated += episode.truncated
        self.led += int(episode.intervention.sum())
        self.actions.add(episode.action)
        self.saturated += (np.abs(episode.action) >= SATURATED).sum(axis=0)
        for name, extent in self.vectors.items():
            extent.add(episode.observation[name])
        for column, values in zip(episode.action.T, self._values, strict=True):
            if len(values) <= _TWO:
                values.update(np.unique(column)[: _TWO + 1].tolist())
        if episode.stamped:
            self.intervals.append(float(np.median(np.diff(episode.stamp))) / NANOSECONDS)
        label = f"episode {episode.number} of {episode.actor}"
        self.findings += [f"{label}: {finding}" for finding in _episode_findings(episode, self.spec)]

    def conclude(self) -> list[str]:
        """Everything that is wrong with the recording as a whole or with single episodes, one line each."""
        found: list[str] = []
        names = self.spec.action_names
        for index, name in enumerate(names):
            share = self.saturated[index] / max(self.steps, 1)
            low, high = self.actions.low[index], self.actions.high[index]
            if low == high:
                found.append(f"action {name}: is {low:g} in all {self.steps} steps")
            elif share > MOSTLY and not self.two_valued[index]:
                found.append(f"action {name}: at its bound in {100 * share:.0f} % of the steps")
            if low < -1 - 1e-5 or high > 1 + 1e-5:
                found.append(f"action {name}: expected values in [-1, 1], found {low:g} to {high:g}")
        if self.intervals:
            rate = 1.0 / max(float(np.median(self.intervals)), 1e-9)
            if abs(rate - self.spec.rate) > RATE_TOLERANCE * self.spec.rate:
                found.append(f"rate: expected {self.spec.rate:g} Hz, found {rate:.3g} Hz by the stamps")
        for name, extent in self.vectors.items():
            for label, low, high in zip(self.spec.entry_names(name), extent.low, extent.high, strict=True):
                if low == high:
                    found.append(f"{name} {label}: is {low:g} in all {self.steps} steps")
        if not self.lengths:
            found.append("there is no complete episode")
        return found + self.findings


def _episode_findings(episode: Episode, spec: RecordingSpec) -> Iterator[str]:
    if episode.stamped:
        yield from _stamp_findings(episode, spec)
    if len(episode) > 1 and (episode.action == episode.action[0]).all():
        yield f"the action is the same in all {len(episode)} steps"
    if episode.success and episode.reward.max() <= 0:
        yield "it succeeded, and no reward is above 0"
    if not episode.terminated and not episode.truncated:
        yield "it has no end: neither terminated nor truncated"
    for name in spec.cameras:
        yield from _camera_findings(name, episode, spec)


def _stamp_findings(episode: Episode, spec: RecordingSpec) -> Iterator[str]:
    intervals = np.diff(episode.stamp) / NANOSECONDS
    back = np.flatnonzero(intervals <= 0)
    if len(back):
        word = "goes back" if intervals[back[0]] < 0 else "stands still"
        yield f"the clock {word} at step {back[0] + 1} by {abs(intervals[back[0]]):.3f} s ({len(back)} times)"
    jumps = np.flatnonzero(intervals > max(JUMP_SECONDS, DROPPED / spec.rate))
    if len(jumps):
        yield f"the clock jumps at step {jumps[0] + 1} by {intervals[jumps[0]]:.3f} s ({len(jumps)} times)"
    late = (intervals > DROPPED / spec.rate) & (intervals <= JUMP_SECONDS)
    dropped = int(np.rint(intervals[late] * spec.rate - 1).sum())
    if dropped:
        yield f"{dropped} frames were dropped, the first behind step {int(np.argmax(late))}"


def _camera_findings(name: str, episode: Episode, spec: RecordingSpec) -> Iterator[str]:
    pictures = episode.observation[name]
    flat = pictures.reshape(len(pictures), -1)
    blank = int((flat.min(axis=1) == flat.max(axis=1)).sum())
    if blank:
        yield f"camera {name}: {blank} pictures of one colour"
    vectors = [episode.observation[each] for each in spec.transitions.vector_names]
    moves = np.zeros(len(episode), np.bool_)
    for rows in vectors:
        moves |= (rows[1:] != rows[:-1]).any(axis=1)
    if not vectors:
        moves[:] = True
    same = (flat[1:] == flat[:-1]).all(axis=1) & moves
    start, length = _longest_run(same)
    if length >= max(LEAST_FROZEN, round(FROZEN_SECONDS * spec.rate)):
        yield f"camera {name}: the same picture from step {start} to {start + length}, while the state changes"


def _longest_run(mask: NDArray[np.bool_]) -> tuple[int, int]:
    """Where the longest run of true values begins, and how many there are."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], mask, [False])).astype(np.int8)))
    if not len(edges):
        return 0, 0
    lengths = edges[1::2] - edges[::2]
    best = int(np.argmax(lengths))
    return int(edges[2 * best]), int(lengths[best])
