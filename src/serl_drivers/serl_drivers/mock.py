# SPDX-License-Identifier: Apache-2.0
"""An arm that is where it was told to be, after a latency: no physics, no hardware. For dry runs of a graph."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np
from serl_config.schema import Field, build, config
from serl_robots.model.robot import HOME, RobotModel

from serl_drivers.device import Joints, Reading


@config(kw_only=True)
class MockSettings:
    """How it answers."""

    latency: int = Field(default=2, ge=0, le=100, description="targets after which one is reached")
    start: str = Field(default=HOME, description="named configuration in which it wakes")
    period: float = Field(default=0.01, gt=0.0, le=1.0, description="between two targets [s], for velocities")


class MockDevice:
    """See `serl_drivers.device.ArmDevice`; nothing here raises `DriverError`."""

    def __init__(self, robot: RobotModel, settings: MockSettings) -> None:
        """Wake in the configuration that the settings name.

        Raises:
            KeyError: the robot has none of that name.
        """
        self._settings, self._name = settings, robot.name
        self._positions = np.array(robot.configuration(settings.start))
        self._before = self._positions
        self._width = robot.gripper.max_width
        self._way: deque[tuple[Joints, float]] = deque()

    @property
    def description(self) -> str:
        """What it is."""
        return f"mock of {self._name}, without hardware"

    def connect(self) -> None:
        """It is there."""

    def limp(self) -> str:
        """It holds when it wakes."""
        return ""

    def read(self) -> Reading:
        """Where it is."""
        velocities = (self._positions - self._before) / self._settings.period
        self._before = self._positions
        return Reading(self._positions, velocities, self._width)

    def hold(self) -> None:
        """Forget what it has not reached yet."""
        self._way.clear()

    def write(self, positions: Joints, width: float) -> None:
        """Be at `positions` (n,) [rad] and an opening [m] some targets later."""
        self._way.append((positions.copy(), width))
        if len(self._way) > self._settings.latency:
            self._positions, self._width = self._way.popleft()

    def release(self) -> None:
        """It floats."""
        self._way.clear()

    def close(self) -> None:
        """It is not there any more."""


def make(robot: RobotModel, settings: Mapping[str, Any], source: str) -> MockDevice:
    """A mock of `robot`; `source` names the file of the `settings`. Raises ConfigError where these are wrong."""
    return MockDevice(robot, build(MockSettings, dict(settings), source))
