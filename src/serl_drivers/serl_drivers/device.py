# SPDX-License-Identifier: Apache-2.0
"""What an arm without ros2_control has to be able to do: the contract between `Driver` and one vendor's client."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Joints = NDArray[np.float64]
"""A value for each arm joint, float64 (n,)."""


class DriverError(Exception):
    """An arm that cannot be reached, or does not do what it should.

    The message is one line: where (port, address), what was expected, what was found, what to do.
    """


@dataclass(frozen=True)
class Reading:
    """Where an arm is, and how it is."""

    positions: Joints
    """(n,) of the arm joints [rad]."""
    velocities: Joints
    """(n,) [rad/s]."""
    width: float
    """Opening of the gripper [m]."""
    efforts: Joints | None = None
    """(n,) [N m]; None where the arm tells none."""
    values: dict[str, float] = field(default_factory=dict)
    """What else it tells, by names with units, as `temperature of elbow_flex [degC]`; for /diagnostics."""
    faults: tuple[str, ...] = ()
    """What it says is wrong with it, a line each; with any it is no longer commanded."""


class ArmDevice(Protocol):
    """One arm with its gripper. Every call comes from one thread, and `write` only after a `read` that found no fault.

    Each method raises `DriverError` where the arm does not answer, and returns or raises within 0.2 s, `connect` alone
    within 10 s.
    """

    @property
    def description(self) -> str:
        """What it is and where, for people: `arm of 6 servos at /dev/ttyACM0`."""

    def connect(self) -> None:
        """Open the connection and check what is there. The arm does not move, and its torque stays as it is.

        Raises:
            DriverError: with the cause (permission, wrong port, another firmware, no calibration) and what to do.
        """

    def limp(self) -> str:
        """Which motors have no torque, so that nothing but its weight and a hand hold the arm; empty where all have.

        Asked once after `connect`. An arm that brakes where its motors are off is never limp.
        """

    def read(self) -> Reading:
        """Where the arm is now."""

    def hold(self) -> None:
        """Stand where it is, with torque, from whatever state."""

    def write(self, positions: Joints, width: float) -> None:
        """Go to `positions` (n,) [rad] and an opening `width` [m] now: both are within the limits of the robot's file.

        The next call follows after 1 / rate; the way up to here has been limited to the joints' speeds.
        """

    def release(self) -> None:
        """Switch the torque off: the arm falls where nothing carries it."""

    def close(self) -> None:
        """End the connection, and leave the torque as it is. Raises nothing; a second call does nothing."""
