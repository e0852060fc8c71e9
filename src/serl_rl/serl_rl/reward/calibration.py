# SPDX-License-Identifier: Apache-2.0
"""Probabilities and a threshold that can be trusted, from what a classifier says of held-out frames. Imports no JAX.

Frames that look alike come in rows, so intervals over frames are narrower than the truth; those over episodes are not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from serl_rl.spec import DataError
from serl_rl.success_rate import wilson_interval

_LOG_TEMPERATURE = math.log(20.0)
_LOWEST_THRESHOLD = 0.5


def softmax(logits: NDArray[np.floating], temperature: float = 1.0) -> NDArray[np.float64]:
    """Probabilities (..., S) of logits (..., S) divided by the temperature."""
    scaled = np.asarray(logits, np.float64) / temperature
    exponentials = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def balanced_loss(logits: NDArray[np.floating], labels: NDArray[np.integer], temperature: float = 1.0) -> float:
    """Mean negative log likelihood [nat] of labels (N,) by logits (N, S), every stage with the same weight."""
    scaled = np.asarray(logits, np.float64) / temperature
    scaled -= scaled.max(axis=-1, keepdims=True)
    losses = np.log(np.exp(scaled).sum(axis=-1)) - scaled[np.arange(len(labels)), labels]
    return float(np.mean([losses[labels == label].mean() for label in np.unique(labels)]))


def fit_temperature(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """Temperature from 1/20 to 20 that minimizes `balanced_loss` (Guo et al., arXiv 1706.04599); no worse than 1.

    Args:
        logits: (N, S) of held-out frames.
        labels: (N,) their stages.

    Raises:
        DataError: there are no frames, or not one label for each.
    """
    if len(logits) != len(labels) or not len(labels):
        raise DataError("logits", "one row for each label, and some", f"{len(logits)} rows, {len(labels)} labels")
    found = minimize_scalar(
        lambda log: balanced_loss(logits, labels, math.exp(log)),
        bounds=(-_LOG_TEMPERATURE, _LOG_TEMPERATURE),
        method="bounded",
    )
    temperature = math.exp(float(found.x))
    return temperature if balanced_loss(logits, labels, temperature) <= balanced_loss(logits, labels) else 1.0


def choose_threshold(scores: NDArray[np.floating], positive: NDArray[np.bool_], false_positive_rate: float) -> float:
    """The lowest threshold from 0.5 whose rate of negatives at or above it is at most the wanted one.

    Args:
        scores: (N,) probabilities of held-out frames.
        positive: (N,) which of them are true.
        false_positive_rate: wanted at most, in [0, 1).

    Raises:
        DataError: no threshold up to 1 does, or there is no negative.
    """
    negatives = np.sort(scores[~positive])[::-1]
    if not len(negatives):
        raise DataError("held-out frames", "some that are not of the stage", "none")
    allowed = math.floor(false_positive_rate * len(negatives) + 1e-9)
    threshold = _LOWEST_THRESHOLD
    if allowed < len(negatives):
        threshold = max(threshold, float(np.nextafter(negatives[allowed], np.inf)))
    if threshold > 1.0:
        raise DataError("held-out frames", "failures that are not certain successes", "failures with probability 1")
    return threshold


@dataclass(frozen=True)
class Rate:
    """How many of how many, with Wilson's 95 % interval."""

    count: int
    total: int

    @property
    def value(self) -> float:
        """Share, 0 of nothing."""
        return self.count / self.total if self.total else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's, 95 %."""
        return wilson_interval(self.count, self.total)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.value:.2%} ({self.count} of {self.total}; 95 %: {low:.2%} to {high:.2%})"


def rates(scores: NDArray[np.floating], positive: NDArray[np.bool_], threshold: float) -> tuple[Rate, Rate]:
    """False and true positives at a threshold, for scores (N,) of frames of which `positive` (N,) says what is true."""
    above = scores >= threshold
    return (
        Rate(int((above & ~positive).sum()), int((~positive).sum())),
        Rate(int((above & positive).sum()), int(positive.sum())),
    )


def area_under_roc(scores: NDArray[np.floating], positive: NDArray[np.bool_]) -> float:
    """Chance that a random positive scores above a random negative, ties counted half; nan without either.

    Args:
        scores: (N,) of frames.
        positive: (N,) which of them are true.
    """
    positives, negatives = np.sort(scores[positive]), np.sort(scores[~positive])
    if not len(positives) or not len(negatives):
        return math.nan
    below = np.searchsorted(negatives, positives, side="left") + np.searchsorted(negatives, positives, side="right")
    return float(below.mean() / 2.0 / len(negatives))


@dataclass(frozen=True)
class Bin:
    """Frames whose probability lies in one range."""

    low: float
    high: float
    predicted: float
    """Mean probability."""
    observed: Rate


def reliability(scores: NDArray[np.floating], positive: NDArray[np.bool_], bins: int = 10) -> list[Bin]:
    """How often frames are true that are believed to be, in equal ranges of probability; empty ones are left out.

    Args:
        scores: (N,) probabilities of frames.
        positive: (N,) which of them are true.
        bins: number of ranges.
    """
    index = np.minimum((scores * bins).astype(int), bins - 1)
    found = []
    for number in range(bins):
        inside = index == number
        if inside.any():
            observed = Rate(int(positive[inside].sum()), int(inside.sum()))
            found.append(Bin(number / bins, (number + 1) / bins, float(scores[inside].mean()), observed))
    return found


class StageCounter:
    """Decides when an episode has succeeded: each stage in its turn, for some consecutive frames."""

    def __init__(self, thresholds: Sequence[float], consecutive: int) -> None:
        """Begin an episode.

        Args:
            thresholds: of the stages 1, 2, ...; the last one is success.
            consecutive: frames in a row that must show a stage until it counts.
        """
        if not thresholds or consecutive < 1:
            raise ValueError(f"expected a threshold and at least one frame, found {thresholds} and {consecutive}")
        self._thresholds, self._consecutive = tuple(thresholds), consecutive
        self.reset()

    def reset(self) -> None:
        """Begin an episode."""
        self.stage = 0
        self._run = 0

    @property
    def succeeded(self) -> bool:
        """Whether the last stage was reached."""
        return self.stage == len(self._thresholds)

    def update(self, probabilities: Sequence[float] | NDArray[np.floating]) -> bool:
        """Take the probabilities (S,) of one frame's stages; whether the episode has succeeded by now."""
        if not self.succeeded:
            seen = probabilities[self.stage + 1] >= self._thresholds[self.stage]
            self._run = self._run + 1 if seen else 0
            if self._run >= self._consecutive:
                self.stage, self._run = self.stage + 1, 0
        return self.succeeded


def first_success(probabilities: NDArray[np.floating], thresholds: Sequence[float], consecutive: int) -> int | None:
    """Frame of an episode (T, S) at which a `StageCounter` says success, None if it never does."""
    counter = StageCounter(thresholds, consecutive)
    return next((index for index, row in enumerate(probabilities) if counter.update(row)), None)
