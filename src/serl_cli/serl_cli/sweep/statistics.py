# SPDX-License-Identifier: Apache-2.0
"""What trials with different seeds say together: interquartile means, with bootstrap intervals.

Agarwal et al., Deep Reinforcement Learning at the Edge of the Statistical Precipice (NeurIPS 2021, arXiv 2108.13264):
the mean of the middle half of all runs is less moved by single runs than the mean, and wastes less than the median; its
interval comes from drawing runs anew, for each task by itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

REPETITIONS = 2000
CONFIDENCE = 0.95
_SEED = 0  # the same numbers give the same interval


class Estimate(NamedTuple):
    """An interquartile mean and the ends of its interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Curve:
    """Success over env steps: points (M,) and the interquartile means over trials with their intervals."""

    env_steps: Sequence[float]
    success: Sequence[Estimate]


def interquartile_mean(scores: ArrayLike) -> NDArray[np.float64]:
    """Mean of what is left of scores (..., N) without the lowest and the highest quarter, rounded down: (...)."""
    ordered = np.sort(np.asarray(scores, np.float64), axis=-1)
    cut = ordered.shape[-1] // 4
    middle = ordered[..., cut : ordered.shape[-1] - cut]
    return np.asarray(middle.mean(axis=-1))


def estimate(scores: Sequence[ArrayLike], *, repetitions: int = REPETITIONS) -> Estimate:
    """Interquartile mean over all runs of all tasks, with the interval that holds 95 % of it when runs are drawn anew.

    Args:
        scores: of the runs of each task, (N,) each.
        repetitions: how often runs are drawn anew, with replacement, as many of each task as there are.

    Raises:
        ValueError: there is no task, or one without runs.
    """
    strata = [np.asarray(each, np.float64).ravel() for each in scores]
    if not strata or not all(len(each) for each in strata):
        raise ValueError("scores: expected at least one run of each task, found none")
    rng = np.random.default_rng(_SEED)
    drawn = np.concatenate([rng.choice(each, (repetitions, len(each))) for each in strata], axis=1)
    tail = 100.0 * (1.0 - CONFIDENCE) / 2.0
    low, high = np.percentile(interquartile_mean(drawn), [tail, 100.0 - tail])
    return Estimate(float(interquartile_mean(np.concatenate(strata))), float(low), float(high))


def held(env_steps: ArrayLike, values: ArrayLike, grid: ArrayLike) -> NDArray[np.float64]:
    """The newest value (M,) at each point of a grid (M,); NaN before the first one.

    Args:
        env_steps: at which there were values, (N,), rising.
        values: what they were, (N,).
        grid: env steps, (M,).
    """
    known = np.concatenate([[np.nan], np.asarray(values, np.float64)])
    return known[np.searchsorted(np.asarray(env_steps), np.asarray(grid), side="right")]
