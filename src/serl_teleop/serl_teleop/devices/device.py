# SPDX-License-Identifier: Apache-2.0
"""What every device of a person is: something that reports axes and buttons."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Protocol

AXES: Final = ("forward", "left", "up", "roll", "pitch", "yaw")
"""A device's axes, those of REP 103 for the person in front of it: forward (x) is away from them, left (y), up (z), and
the turns about these. They are words because a `y` in a parameter file means yes."""

GRAB: Final = "grab"
"""Name of the button that a hand at an arm presses."""

REST: Final = (0.0,) * 6
"""A device that nobody touches."""


Motion = tuple[float, float, float, float, float, float]
"""Way [m] and turn [rad] of the robot's tool along and about the axes of the arm's base."""


class DeviceError(Exception):
    """The device is not there, no longer, or does not report what it should; says what to do."""


@dataclass(frozen=True, slots=True)
class DeviceState:
    """What a device reports."""

    twist: tuple[float, float, float, float, float, float]
    """Deflection of each of `AXES`, in [-1, 1]."""
    buttons: frozenset[str] = frozenset()
    """Names of those that are held."""
    gripper: float | None = None
    """Width that a device with a handle of its own shows, -1 closed to 1 open; None: it has none."""
    stamp: float = 0.0
    """Local time of the report [s, monotonic]."""
    motion: Motion | None = None
    """What a device that knows the robot asks of its tool: no deflection, but the way from where it is commanded to
    where the person wants it. None: the twist says what is wanted."""
    shown: str = ""
    """What it reports beyond axes and buttons, for people."""

    def check(self) -> None:
        """Refuse what is no report.

        Raises:
            DeviceError: a number is not finite, or outside of its range.
        """
        for name, value in zip(AXES, self.twist, strict=True):
            if not abs(value) <= 1.0:
                raise DeviceError(f"axis {name}: expected a number in [-1, 1], found {value}")
        if self.gripper is not None and not abs(self.gripper) <= 1.0:
            raise DeviceError(f"gripper: expected a number in [-1, 1], found {self.gripper}")
        if self.motion is not None and not all(map(math.isfinite, self.motion)):
            raise DeviceError(f"motion: expected finite numbers, found {self.motion}")
        if not math.isfinite(self.stamp):
            raise DeviceError(f"stamp: expected a finite time, found {self.stamp}")

    @property
    def is_touched(self) -> bool:
        """Whether an axis is away from its middle, however little, or a button is held."""
        return any(self.twist) or bool(self.buttons)


class Device(Protocol):
    """Something by which a person leads."""

    @property
    def description(self) -> str:
        """What it is and where, for people."""

    def read(self, now: float) -> DeviceState | None:
        """Take in all that was reported, without waiting, and return the newest state; None before the first.

        Args:
            now: local time [s, monotonic].

        Raises:
            DeviceError: it is gone; a new one has to be made.
        """

    def close(self) -> None:
        """Let go of the device. A second call does nothing."""
