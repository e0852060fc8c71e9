# SPDX-License-Identifier: Apache-2.0
"""Statistics of the features of a LeRobot dataset, with which LeRobot's policies scale what they see and do."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

QUANTILES: Final = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}
MOST_PICTURES: Final = 100
"""Pictures of an episode that are looked at, evenly spread over it."""


@dataclass(frozen=True)
class Statistics:
    """Statistics of one feature, of an episode or of several.

    count: rows; mean, low, high, squares: (k,), the last one the mean of the squares
    quantiles: name -> (k,); those of several episodes are means of theirs, weighted by rows, as LeRobot makes them
    shape: in which (k,) is written
    """

    count: int
    mean: NDArray[np.float64]
    squares: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    quantiles: Mapping[str, NDArray[np.float64]]
    shape: tuple[int, ...]

    @property
    def tree(self) -> dict[str, Any]:
        """As the format has them: lists by name."""
        deviation = np.sqrt(np.maximum(self.squares - self.mean**2, 0.0))
        arrays = {"min": self.low, "max": self.high, "mean": self.mean, "std": deviation, **self.quantiles}
        return {name: array.reshape(self.shape).tolist() for name, array in arrays.items()} | {"count": [self.count]}


def of_rows(rows: NDArray[Any]) -> Statistics:
    """Statistics of the rows (n, k) of a feature of vectors or numbers."""
    return _statistics(rows.astype(np.float64), len(rows), (rows.shape[1],))


def of_pictures(pictures: NDArray[np.uint8]) -> Statistics:
    """Statistics of each channel of pictures (n, H, W, C), of values from 0 to 1."""
    chosen = np.unique(np.linspace(0, len(pictures) - 1, min(len(pictures), MOST_PICTURES)).astype(int))
    channels = pictures.shape[3]
    return _statistics(pictures[chosen].reshape(-1, channels) / 255.0, len(chosen), (channels, 1, 1))


def _statistics(values: NDArray[np.float64], count: int, shape: tuple[int, ...]) -> Statistics:
    quantiles = np.quantile(values, list(QUANTILES.values()), axis=0)
    return Statistics(
        count,
        values.mean(axis=0),
        (values**2).mean(axis=0),
        values.min(axis=0),
        values.max(axis=0),
        dict(zip(QUANTILES, quantiles, strict=True)),
        shape,
    )


def combined(one: Statistics, other: Statistics) -> Statistics:
    """Statistics of the rows of both."""
    count = one.count + other.count
    share = one.count / count

    def mean(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
        return share * first + (1 - share) * second

    return Statistics(
        count,
        mean(one.mean, other.mean),
        mean(one.squares, other.squares),
        np.minimum(one.low, other.low),
        np.maximum(one.high, other.high),
        {name: mean(one.quantiles[name], other.quantiles[name]) for name in one.quantiles},
        one.shape,
    )


def text_of(statistics: Mapping[str, Statistics]) -> bytes:
    """``meta/stats.json``."""
    return json.dumps({name: each.tree for name, each in statistics.items()}, indent=4).encode()
