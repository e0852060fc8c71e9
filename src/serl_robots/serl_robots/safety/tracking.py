# SPDX-License-Identifier: Apache-2.0
"""Notices a tool that does not follow its target."""

import math

from serl_robots.model.pose import Pose
from serl_robots.safety.limits import SafetyLimits


class TrackingMonitor:
    """Reports when target and tool stay apart without getting nearer for `tracking_timeout`.

    A target that runs ahead of a blocked tool stores up force and a jump for the moment it comes free.
    """

    def __init__(self, limits: SafetyLimits, *, turns_freely: bool = True) -> None:
        """Watch for what `limits` say.

        Args:
            limits: distances and times.
            turns_freely: whether the arm can turn its tool as it likes. One of fewer than six joints cannot: there a
                rotation that stays away from its target is no sign that anything blocks the tool.
        """
        self._limits = limits
        self._turns_freely = turns_freely
        self.clear()

    def clear(self) -> None:
        """Forgets what was seen, for a new target."""
        self._best_distance = math.inf
        self._best_angle = math.inf
        self._stuck = 0.0

    def update(self, target: Pose, measured: Pose, elapsed: float) -> bool:
        """Call with every new measured pose; `elapsed` [s] since the one before. True: the tool is stuck."""
        limits = self._limits
        distance, angle = target.distance(measured), target.angle(measured) if self._turns_freely else 0.0
        if distance <= limits.tracking_error and angle <= limits.tracking_rotation_error:
            self.clear()
            return False
        nearer = distance <= self._best_distance - limits.tracking_progress
        if nearer or angle <= self._best_angle - limits.tracking_progress:
            self._best_distance, self._best_angle, self._stuck = distance, angle, 0.0
            return False
        self._stuck += elapsed
        return self._stuck >= limits.tracking_timeout
