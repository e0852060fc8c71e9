# SPDX-License-Identifier: Apache-2.0
"""What the figures of a recording are drawn from, gathered in one pass over its episodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from serl_recording.episode import NANOSECONDS, Episode, RecordingSpec

BINS: Final = 40
"""Number of bins of a histogram of actions, over [-1, 1]."""
MOST_THUMBNAILS: Final = 8
"""Episodes of which pictures are kept."""
_OUTSIDE: Final = 1.0 + 1e-6
_MOST_INTERVALS: Final = 2**20


@dataclass(frozen=True)
class Thumbnails:
    """What the cameras saw first, in the middle and last in an episode.

    title: which episode
    pictures: camera -> (3, H, W, C) uint8
    """

    title: str
    pictures: dict[str, NDArray[np.uint8]]


class Sketch:
    """Numbers and pictures of the episodes so far.

    Pictures, intervals and counts of actions are bounded, however many episodes there are; an episode leaves three
    numbers besides: its length, whether it succeeded, and how much of it a person led.

    lengths: [steps], and succeeded: of each episode
    led: share of the steps of each episode in which a person led
    actions: (A, BINS) how many values of each component of the action lie in each part of [-1, 1]
    outside: (A,) how many lie outside of it
    thumbnails: of up to `MOST_THUMBNAILS` episodes, evenly spread over the recording
    """

    def __init__(self, spec: RecordingSpec) -> None:
        self.spec = spec
        size = spec.transitions.action_dim
        self.lengths: list[int] = []
        self.succeeded: list[bool] = []
        self.led: list[float] = []
        self.actions: NDArray[np.int64] = np.zeros((size, BINS), np.int64)
        self.outside: NDArray[np.int64] = np.zeros(size, np.int64)
        self.thumbnails: list[Thumbnails] = []
        self._stride = 1
        self._intervals: list[NDArray[np.float64]] = []
        self._held = 0

    @property
    def intervals(self) -> NDArray[np.float64]:
        """(k,) [s] between the stamps of observations, where they were measured, in their order."""
        return np.concatenate(self._intervals) if self._intervals else np.zeros(0)

    def add(self, episode: Episode) -> None:
        """Take an episode in."""
        if len(self.lengths) % self._stride == 0:
            self._keep(episode)
        self.lengths.append(len(episode))
        self.succeeded.append(episode.success)
        self.led.append(float(episode.intervention.mean()))
        for index, column in enumerate(episode.action.T):
            inside = np.abs(column) <= _OUTSIDE
            self.outside[index] += int((~inside).sum())
            counts, _ = np.histogram(np.clip(column[inside], -1, 1), BINS, (-1, 1))
            self.actions[index] += counts
        if episode.stamped and self._held < _MOST_INTERVALS:
            self._intervals.append(np.diff(episode.stamp) / NANOSECONDS)
            self._held += len(episode)

    def _keep(self, episode: Episode) -> None:
        if not self.spec.cameras:
            return
        if len(self.thumbnails) == MOST_THUMBNAILS:
            self._stride *= 2
            del self.thumbnails[1::2]
            if len(self.lengths) % self._stride:
                return
        rows = [0, len(episode) // 2, len(episode)]
        pictures = {name: episode.observation[name][rows] for name in self.spec.cameras}
        title = f"{episode.number} of {episode.actor}, {'success' if episode.success else 'failure'}"
        self.thumbnails.append(Thumbnails(title, pictures))
