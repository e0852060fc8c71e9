# SPDX-License-Identifier: Apache-2.0
"""Keeps the commanded gripper width, and its speed, within limits."""

import math
from typing import Final

from serl_robots.safety.limits import SafetyLimits

# Below this excess [m] a limit has not acted: it is rounding.
_SLACK: Final = 1e-9


class GripperFilter:
    """Part of the safety filters of one arm.

    Attributes:
        width: last commanded width [m].
    """

    def __init__(self, limits: SafetyLimits, period: float) -> None:
        """Begin closed; `period` [s] is that of control."""
        self._limits = limits
        self._change = limits.max_gripper_velocity * period
        self.width = 0.0

    def reset(self, width: float) -> None:
        """Starts anew from a measured width [m].

        Raises:
            ValueError: it is not finite.
        """
        if not math.isfinite(width):
            raise ValueError(f"expected a finite gripper width, found {width}")
        self.width = width

    def limit(self, desired: float, acted: list[str]) -> None:
        """One control period towards the `desired` width [m]; adds the limits that act to `acted`."""
        if not math.isfinite(desired):
            desired = self.width
        width = self._limits.width_within(desired)
        if abs(width - desired) > _SLACK:
            acted.append("gripper")
        if abs(width - self.width) > self._change * (1.0 + _SLACK):
            acted.append("gripper_velocity")
            width = self.width + math.copysign(self._change, width - self.width)
        self.width = width

    def keep(self) -> None:
        """One control period with the same width, except that one that began outside its limits goes inside."""
        self.limit(self.width, [])
