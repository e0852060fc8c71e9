# SPDX-License-Identifier: Apache-2.0
"""Numbers on the Piper's bus in SI units, and back: nobody else multiplies by a thousand.

Angles are integers of 0.001 degrees there, openings of 0.001 mm, torques of 0.001 N m, currents of 0.001 A, speeds of
0.001 rad/s and supplies of 0.1 V.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

import numpy as np
from numpy.typing import NDArray

ANGLE: Final = math.radians(0.001)
"""[rad] of a count."""
LENGTH: Final = 1e-6
"""[m] of a count."""
TORQUE: Final = 1e-3
"""[N m] of a count."""
CURRENT: Final = 1e-3
"""[A] of a count."""
SPEED: Final = 1e-3
"""[rad/s] of a count."""
VOLTAGE: Final = 0.1
"""[V] of a count."""

TORQUE_OF_CURRENT: Final = (1.18125, 1.18125, 1.18125, 0.95844, 0.95844, 0.95844)
"""Constants of the six motors with gears [N m/A], as the vendor's SDK estimates torques from currents."""


def angle_counts(angles: Iterable[float]) -> list[int]:
    """Nearest counts of angles [rad].

    Raises:
        ValueError: one of them is not finite.
    """
    return [_count(angle, ANGLE, "an angle [rad]") for angle in angles]


def angles(counts: Iterable[int]) -> NDArray[np.float64]:
    """Angles float64[n] [rad] of n counts."""
    return np.array([count * ANGLE for count in counts])


def length_count(length: float) -> int:
    """Nearest count of a length [m].

    Raises:
        ValueError: it is not finite.
    """
    return _count(length, LENGTH, "a length [m]")


def torque_count(torque: float) -> int:
    """Nearest count of a torque [N m].

    Raises:
        ValueError: it is not finite.
    """
    return _count(torque, TORQUE, "a torque [N m]")


def _count(value: float, unit: float, what: str) -> int:
    if not math.isfinite(value):
        raise ValueError(f"expected {what} that is finite, found {value}")
    return round(value / unit)
