# SPDX-License-Identifier: Apache-2.0
"""Who judges episodes without knowing the truth: a classifier of pictures, a person. No ROS."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from serl_rl.reward.calibration import StageCounter

from serl_tasks import Judgement


@dataclass(frozen=True)
class StampedJudgement(Judgement):
    """A judgement of the state of one moment, as a message on `reward` tells it."""

    stamp_ns: int
    """Stamp of the state [ns]."""
    episode: int
    step: int
    """States judged in this episode before this one."""
    probability: float
    """Probability of success."""


class PictureMatcher:
    """Finds out when the newest pictures of several cameras belong together. Each picture is used once."""

    def __init__(self, skew_ns: int) -> None:
        """Match pictures that are up to `skew_ns` apart; 0: that have the same stamp."""
        self._skew_ns = skew_ns
        self.last: Mapping[str, int] = {}
        """Stamps of the pictures that were used last."""

    def take(self, stamps: Mapping[str, int]) -> bool:
        """Use the newest pictures, with these stamps [ns] (negative where there is none), if they belong together."""
        oldest = min(stamps.values())
        used = any(self.last.get(name) == stamp for name, stamp in stamps.items())
        if oldest < 0 or used or max(stamps.values()) - oldest > self._skew_ns:
            return False
        self.last = dict(stamps)
        return True


class _Judge:
    """Counts states, and gives a state that comes again the judgement that it had."""

    def __init__(self) -> None:
        self._episode = 0
        self._steps = 0
        self.last: StampedJudgement | None = None

    def begin(self, episode: int) -> None:
        """Start an episode; what was published before stays the judgement on the last state."""
        self._episode, self._steps = episode, 0

    def _settle(self, stamp_ns: int, success: bool, terminated: bool, probability: float) -> StampedJudgement:
        self.last = StampedJudgement(
            reward=float(success),
            success=success,
            terminated=terminated,
            stamp_ns=stamp_ns,
            episode=self._episode,
            step=self._steps,
            probability=probability,
        )
        self._steps += 1
        return self.last


class PictureJudge(_Judge):
    """Judges the pictures of several cameras as soon as there is one of each for the same moment."""

    def __init__(
        self,
        probabilities: Callable[[Mapping[str, NDArray[np.uint8]]], NDArray[np.floating]],
        thresholds: Sequence[float],
        consecutive: int,
        skew_ns: int,
    ) -> None:
        """Judge with a classifier.

        Args:
            probabilities: of the stages (S,), for one picture of each camera.
            thresholds: of the stages 1, 2, ...
            consecutive: pictures in a row that must show a stage until it counts.
            skew_ns: how far apart pictures may be that belong together; 0: they have the same stamp.
        """
        super().__init__()
        self._probabilities = probabilities
        self._counter = StageCounter(thresholds, consecutive)
        self._matcher = PictureMatcher(skew_ns)

    def begin(self, episode: int) -> None:
        """Start an episode: no stage was reached yet."""
        super().begin(episode)
        self._counter.reset()

    def judge(
        self, stamps: Mapping[str, int], pictures: Callable[[], Mapping[str, NDArray[np.uint8]]]
    ) -> StampedJudgement | None:
        """The judgement on the newest pictures, the last one again if they came again, None while they are incomplete.

        Args:
            stamps: of each camera's newest picture [ns], negative if there is none yet.
            pictures: gives the pictures, uint8 (H, W, 3); called only when they are judged.
        """
        if stamps == self._matcher.last:
            return self.last
        if not self._matcher.take(stamps):
            return None
        probabilities = self._probabilities(pictures())
        success = self._counter.update(probabilities)
        return self._settle(max(stamps.values()), success, success, float(probabilities[-1]))


class HumanJudge(_Judge):
    """Calls every state a failure that goes on, until a person says that the episode is a success or has failed."""

    def __init__(self) -> None:
        super().__init__()
        self._running = False
        self._said: bool | None = None

    def begin(self, episode: int) -> None:
        """Start an episode; what was said before counts no more."""
        super().begin(episode)
        self._running, self._said = True, None

    def end(self) -> None:
        """No episode is running: what is said now is not about one."""
        self._running = False

    def say(self, success: bool) -> bool:
        """The person's word, which the next state gets; False if no episode is running."""
        if self._running:
            self._said = success
        return self._running

    def judge(self, stamp_ns: int) -> StampedJudgement:
        """The judgement on the state of this moment; that on the last state again if it is that."""
        last = self.last
        if last is not None and last.stamp_ns == stamp_ns:
            return last
        success = self._said is True
        return self._settle(stamp_ns, success, self._said is not None, float(success))


def fill(message: Any, judgement: StampedJudgement) -> None:
    """Write a judgement into a serl_interfaces/Reward."""
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(judgement.stamp_ns, 1_000_000_000)
    message.episode, message.step = judgement.episode, judgement.step
    message.reward, message.success, message.terminated = judgement.reward, judgement.success, judgement.terminated
    message.probability = judgement.probability
