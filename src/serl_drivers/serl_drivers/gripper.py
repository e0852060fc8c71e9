# SPDX-License-Identifier: Apache-2.0
"""A gripper that is not the arm's own: the contract, the kinds by name, and an arm that has one of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Final, Protocol, runtime_checkable

from serl_config.schema import ConfigError, suggestion
from serl_robots.model.robot import RobotModel

from serl_drivers.device import ArmDevice, Joints, Reading

KINDS: Final[Mapping[str, str]] = {"robotiq": "serl_drivers.robotiq.gripper"}
"""Module of each kind of gripper. It has `make(robot, settings, source)`."""


@dataclass(frozen=True)
class GripperReading:
    """Where a gripper is, and how it is."""

    width: float
    """Opening [m]."""
    values: dict[str, float] = field(default_factory=dict)
    """What else it tells, by names with units; for /diagnostics."""
    faults: tuple[str, ...] = ()
    """What it says is wrong with it, a line each."""


@runtime_checkable
class Activates(Protocol):
    """A device that has to be activated before it moves, and moves for that."""

    def activate(self) -> None:
        """Begin with it. Raises `DriverError`."""


class GripperDevice(Protocol):
    """One gripper, in a thread of its own where it is slower than the arm: each call but `connect` returns at once.

    Each may raise `DriverError`, `hold` and `close` aside.
    """

    @property
    def description(self) -> str:
        """What it is and where, for people."""

    def connect(self) -> None:
        """Open the connection and check what is there; nothing moves. Has 4 s."""

    def read(self) -> GripperReading:
        """How it is."""

    def write(self, width: float) -> None:
        """Go to an opening [m]."""

    def hold(self) -> None:
        """Stay where it is, with what it holds."""

    def release(self) -> None:
        """Switch off what can be; what it holds may fall."""

    def activate(self) -> None:
        """See `Activates`."""

    def close(self) -> None:
        """End the connection; a second call does nothing."""


class ArmWithGripper:
    """An arm whose gripper is another device; see `serl_drivers.device.ArmDevice`."""

    def __init__(self, arm: ArmDevice, gripper: GripperDevice) -> None:
        """Join them; the arm is told and held first."""
        self._arm, self._gripper = arm, gripper

    @property
    def description(self) -> str:
        """What they are and where."""
        return f"{self._arm.description} with {self._gripper.description}"

    def connect(self) -> None:
        """Connect to both, or to none; raises DriverError."""
        self._arm.connect()
        self._gripper.connect()

    def limp(self) -> str:
        """Which motors of the arm have no torque; raises DriverError."""
        return self._arm.limp()

    def read(self) -> Reading:
        """Where the arm is, with the opening of the gripper, and the faults of both; raises DriverError."""
        arm, gripper = self._arm.read(), self._gripper.read()
        return dataclasses.replace(
            arm, width=gripper.width, values={**arm.values, **gripper.values}, faults=arm.faults + gripper.faults
        )

    def hold(self) -> None:
        """Both stay where they are; raises DriverError."""
        self._gripper.hold()
        self._arm.hold()

    def write(self, positions: Joints, width: float) -> None:
        """Go to `positions` (n,) [rad] and an opening [m]; raises DriverError."""
        self._arm.write(positions, width)
        self._gripper.write(width)

    def release(self) -> None:
        """Switch the torque of both off; raises DriverError."""
        try:
            self._arm.release()
        finally:
            self._gripper.release()

    def activate(self) -> None:
        """Activate the gripper; raises DriverError."""
        self._gripper.activate()

    def close(self) -> None:
        """End both connections."""
        self._gripper.close()
        self._arm.close()


def make_gripper(given: Mapping[str, Any], robot: RobotModel, source: str) -> GripperDevice:
    """A gripper that is not connected yet.

    Args:
        given: its `device`, one of `KINDS`, and that one's settings.
        robot: that it is at.
        source: where this is given, for people.

    Raises:
        ConfigError: no such device, or settings that it does not know.
    """
    settings = dict(given)
    kind = settings.pop("device", None)
    if kind not in KINDS:
        raise ConfigError(
            f"{source}: 'device': expected a gripper of {', '.join(KINDS)}, found {kind!r}"
            + suggestion(str(kind), [*KINDS])
        )
    gripper: GripperDevice = import_module(KINDS[str(kind)]).make(robot, settings, source)
    return gripper
