# SPDX-License-Identifier: Apache-2.0
"""What an unsteady hand adds to a motion: noise that stays for a while, as a hand's does, not jitter."""

import math

import numpy as np
from numpy.typing import NDArray


class UnsteadyHand:
    """An Ornstein-Uhlenbeck process, in steps of its exact discretization.

    Each component is Gaussian with mean 0 and deviation s at every step, the first one included. The correlation of two
    steps that are k apart is r^k with r = exp(-period / time): x[0] = s n[0], x[k] = r x[k - 1] + s sqrt(1 - r^2) n[k],
    where n is standard normal (Gillespie 1996, Phys. Rev. E 54, 2084, eq. 1.9).
    """

    def __init__(self, rng: np.random.Generator, size: int, deviation: float, period: float, time: float) -> None:
        """Begin in the middle of it.

        Args:
            rng: draws the noise.
            size: number of components.
            deviation: standard deviation s of each.
            period: of the steps [s].
            time: in which the correlation falls to 1/e [s]; 0: steps do not know of each other.
        """
        self._rng, self._deviation = rng, deviation
        self._kept = math.exp(-period / time) if time else 0.0
        self._fresh = math.sqrt(1.0 - self._kept**2)
        self._unit = rng.standard_normal(size)

    def step(self) -> NDArray[np.float64]:
        """What it adds in this step (size,)."""
        now = self._unit
        self._unit = self._kept * now + self._fresh * self._rng.standard_normal(len(now))
        return self._deviation * now
