# SPDX-License-Identifier: Apache-2.0
"""How numbers become what an ACT network takes, and what it makes becomes actions again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from serl_rl.foreign.act.config import NormalizationMode

Array = NDArray[np.float32]
Statistics = Mapping[str, Array]
"""By name: mean, std, min, max, q01, q10, q90, q99; (3, 1, 1) of pictures in [0, 1], (n,) of vectors."""

EPSILON: Final = 1e-8

NEEDED: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "MEAN_STD": ("mean", "std"),
        "MIN_MAX": ("min", "max"),
        "QUANTILES": ("q01", "q99"),
        "QUANTILE10": ("q10", "q90"),
        "IDENTITY": (),
    }
)
"""The two statistics that each mode uses."""


@dataclass(frozen=True)
class Normalization:
    """One feature's: `normalise` is (x - offset) * scale + shift, and `restore` the inverse."""

    offset: Array
    scale: Array
    shift: Array
    back_scale: Array
    back_offset: Array

    def normalise(self, values: Array) -> Array:
        """What the network takes for these values."""
        return (values - self.offset) * self.scale + self.shift

    def restore(self, values: Array) -> Array:
        """The values that the network means."""
        return values * self.back_scale + self.back_offset


def normalization(mode: NormalizationMode, statistics: Statistics) -> Normalization:
    """What a mode does with these statistics; `NEEDED` says which must be there.

    A range of no width counts as one of 1e-8, and 1e-8 is added to a standard deviation when it divides.
    """
    if mode == "IDENTITY":
        parts: tuple[float | NDArray[np.float64], ...] = (0, 1, 0, 1, 0)
    else:
        first, second = (np.asarray(statistics[name], np.float64) for name in NEEDED[mode])
        if mode == "MEAN_STD":
            parts = (first, 1 / (second + EPSILON), 0, second, first)
        else:
            width = np.where(second == first, EPSILON, second - first)
            parts = (first, 2 / width, -1, width / 2, first + width / 2)
    return Normalization(*(np.asarray(part, np.float32) for part in parts))
