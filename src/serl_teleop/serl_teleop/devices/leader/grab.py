# SPDX-License-Identifier: Apache-2.0
"""Whether a person has a leader arm in their hand: by how much its tracking error varies."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class GrabSettings:
    """When an arm is taken for grabbed, and for let go."""

    start_variance: float = 2.25e-4
    """[rad^2] of the tracking error, all joints together, above which it has been grabbed: 15 mrad."""
    start_window: float = 0.15
    """[s] over which it varies."""
    release_variance: float = 1e-5
    """[rad^2] below which nobody holds it: 3 mrad, two steps of an encoder."""
    release_window: float = 0.5
    """[s] over which it varies: who holds the arm still for longer has let go, as far as anybody can tell."""


class GrabDetector:
    """Follows the tracking error of one arm. Knows no clock: each call says the local time [s, monotonic]."""

    def __init__(self, settings: GrabSettings) -> None:
        """Begin with an arm that nobody holds."""
        self._settings = settings
        self._errors: deque[tuple[float, NDArray[np.float64]]] = deque()
        self.grabbed = False
        """Whether a person has it."""
        self.variance = 0.0
        """What was found last [rad^2]."""

    def forget(self, *, grabbed: bool) -> None:
        """What was seen is of another error than what will be; whether the arm is held now."""
        self._errors.clear()
        self.grabbed, self.variance = grabbed, 0.0

    def update(self, error: NDArray[np.float64], now: float) -> bool:
        """Take in the tracking error (n,) [rad] at a local time [s]; returns whether the arm is held.

        While it is held, the error is counted from any place that stands still: what is asked is whether it moves.
        """
        settings = self._settings
        window = settings.release_window if self.grabbed else settings.start_window
        self._errors.append((now, error))
        while len(self._errors) > 1 and self._errors[1][0] <= now - window:
            self._errors.popleft()
        self.variance = float(np.var([each for _, each in self._errors], axis=0).sum())
        if not self.grabbed:
            self.grabbed = self.variance > settings.start_variance
        elif now - self._errors[0][0] >= window - 1e-9:
            self.grabbed = self.variance > settings.release_variance
        return self.grabbed
