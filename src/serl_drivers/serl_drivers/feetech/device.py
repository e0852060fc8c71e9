# SPDX-License-Identifier: Apache-2.0
"""A follower of STS3215 servos at a serial port."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from serl_config.files import FileError
from serl_config.schema import ConfigError, Field, build, config
from serl_feetech.arm import GRIPPER, ServoArm
from serl_feetech.bus import Bus
from serl_feetech.calibration import CalibrationError, read_calibration
from serl_feetech.errors import FeetechError, ServoFault
from serl_feetech.found import only_calibration, only_port
from serl_feetech.port import SerialPort
from serl_feetech.registers import Register
from serl_robots.model.gripper import JawMap
from serl_robots.model.robot import RobotModel

from serl_drivers.device import DriverError, Joints, Reading
from serl_feetech import registers

_KINDS: Final = tuple(f"robots/{name}" for name in ("so_follower", "so101_follower", "so100_follower"))
_VALUES: Final[tuple[tuple[str, Register, float], ...]] = (
    ("temperature of {} [degC]", registers.PRESENT_TEMPERATURE, 1.0),
    ("current of {} [A]", registers.PRESENT_CURRENT, 6.5e-3),
    ("load of {} [1]", registers.PRESENT_LOAD, 1e-3),
    ("voltage of {} [V]", registers.PRESENT_VOLTAGE, 0.1),
)
_BEND_RATE: Final = 4.0  # [1/s] of the error of a joint that stands, by which its goal goes beyond
_STANDS: Final = 0.15  # [rad/s] of command and joint, below which it stands
_KEPT: Final = 0.15  # [rad] from where a joint was sent, within which to hold it is to send it there again
_SMOOTHING: Final = 0.03  # [s] over which a velocity is an average: a step of the encoder is 1.5 mrad


@config(kw_only=True)
class ServoSettings:
    """Settings of an arm of servos."""

    port: str = Field(default="", description="serial port; empty: the only serial adapter there is")
    calibration: str = Field(default="", description="file of LeRobot; empty: the only one it has made of a follower")
    torque: float = Field(default=1.0, gt=0.0, le=1.0, description="share of the servos' torque")
    grip: float = Field(
        default=0.25, gt=0.0, le=1.0, description="share of its torque with which the gripper presses on what it holds"
    )
    jaw_range: tuple[float, float] = Field(
        default=(-0.174533, 1.745329), description="angles of the jaw's hinge in the URDF, closed and open [rad]"
    )
    most_bend: float = Field(
        default=0.1,
        ge=0.0,
        le=0.3,
        description="largest angle by which the goal of a joint goes beyond its command, as far as weight bends the "
        "arm: the servos have no integral part [rad]",
    )
    hottest: float = Field(
        default=65.0, gt=0.0, le=80.0, description="temperature from which it is not commanded [degC]"
    )
    values_every: float = Field(default=0.2, ge=0.02, le=10.0, description="between two questions for them [s]")


class ServoDevice:
    """See `serl_drivers.device.ArmDevice`."""

    def __init__(
        self, robot: RobotModel, jaw: JawMap, settings: ServoSettings, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Drive `robot`, whose gripper is the `jaw`; the port is opened by `connect`."""
        self._joints, self._jaw, self._settings, self._clock = robot.arm_joints, jaw, settings, clock
        self._arm: ServoArm | None = None
        self._port = settings.port or "the only serial adapter"
        self._last: tuple[float, Joints] | None = None
        self._width = 0.0  # that was measured last [m]
        self._velocities = np.zeros(len(robot.arm_joints))
        self._bend = np.zeros(len(robot.arm_joints))  # of the goals beyond the commands [rad]
        self._sent: tuple[float, Joints, float] | None = None  # when, positions and width that were commanded last
        self._values: dict[str, float] = {}
        self._asked, self._asked_at = 0, -math.inf

    @property
    def description(self) -> str:
        """What it is and where."""
        return self._arm.description if self._arm is not None else f"arm of servos at {self._port}"

    def connect(self) -> None:
        """Open the port, find the servos, and bring their calibration into them.

        Raises:
            DriverError: names the port, the servo or the file, and what to do.
        """
        self.close()
        settings = self._settings
        try:
            named = settings.calibration
            file = Path(named).expanduser() if named else only_calibration("settings.calibration", _KINDS)
            calibration = read_calibration(file)
            missing = [name for name in (*self._joints, GRIPPER) if name not in calibration]
            if missing or len(calibration) != len(self._joints) + 1:
                raise DriverError(
                    f"{file}: expected a calibration of {', '.join((*self._joints, GRIPPER))}, found "
                    f"{', '.join(calibration)}; is it that of another arm?"
                )
            calibration = {name: calibration[name] for name in (*self._joints, GRIPPER)}
            self._port = settings.port or only_port("settings.port")
            port = SerialPort(self._port)
        except (FeetechError, FileError, CalibrationError) as error:
            raise DriverError(str(error)) from error
        try:
            self._arm = ServoArm(
                Bus(port, {servo.id: name for name, servo in calibration.items()}), calibration, str(file)
            )
        except (FeetechError, CalibrationError) as error:
            port.close()
            raise DriverError(str(error)) from error
        self._last = self._sent = None
        self._bend, self._velocities = np.zeros_like(self._bend), np.zeros_like(self._velocities)
        self._values, self._asked, self._asked_at = {}, 0, -math.inf  # it may have cooled down meanwhile

    def limp(self) -> str:
        """Which servos have no torque; raises DriverError."""
        try:
            torque = self._connected().ask(registers.TORQUE_ENABLE)
        except FeetechError as error:
            raise DriverError(str(error)) from error
        return ", ".join(name for name, on in torque.items() if not on)

    def read(self) -> Reading:
        """Where it is; raises DriverError."""
        arm, now = self._connected(), self._clock()
        try:
            found = arm.read()
            faults = self._ask(arm, now)
        except ServoFault as error:
            if self._last is None:
                raise DriverError(str(error)) from error
            still = np.zeros_like(self._velocities)
            return Reading(self._last[1], still, self._width, values=self._values, faults=(str(error),))
        except FeetechError as error:
            raise DriverError(str(error)) from error
        if self._last is not None and now > self._last[0]:
            then, before = self._last
            share = 1.0 - math.exp(-(now - then) / _SMOOTHING)
            self._velocities = self._velocities + share * ((found.angles - before) / (now - then) - self._velocities)
        self._last = (now, found.angles)
        closed, opened = self._settings.jaw_range
        self._width = self._jaw.width(closed + found.gripper * (opened - closed))
        return Reading(found.angles, self._velocities, self._width, values=self._values, faults=faults)

    def hold(self) -> None:
        """Stand where it is, with torque; raises DriverError.

        An arm that gives way to its weight would sink with each hold: one that is where it was sent stays sent there.
        """
        arm = self._connected()
        if self._sent is not None and self._last is not None:
            _, positions, width = self._sent
            if np.abs(positions - self._last[1]).max() < _KEPT:
                self._send(arm, positions, width)
                return
        self._sent, self._bend = None, np.zeros_like(self._bend)
        try:
            arm.hold(self._settings.torque, self._settings.grip)
        except FeetechError as error:
            raise DriverError(str(error)) from error

    def write(self, positions: Joints, width: float) -> None:
        """Go to `positions` (n,) [rad] and an opening [m]; raises DriverError."""
        arm, now = self._connected(), self._clock()
        if self._sent is not None and self._last is not None and now > self._sent[0]:
            period = min(now - self._sent[0], 0.1)
            speed = np.maximum(np.abs(positions - self._sent[1]) / period, np.abs(self._velocities))
            error = np.where(speed < _STANDS, positions - self._last[1], 0.0)
            most = self._settings.most_bend
            self._bend = np.clip(self._bend + _BEND_RATE * period * error, -most, most)
        self._send(arm, positions, width)
        self._sent = (now, positions.copy(), width)

    def _send(self, arm: ServoArm, positions: Joints, width: float) -> None:
        closed, opened = self._settings.jaw_range
        try:
            arm.go_to(positions + self._bend, (self._jaw.angle(width) - closed) / (opened - closed))
        except FeetechError as error:
            raise DriverError(str(error)) from error

    def release(self) -> None:
        """Switch the torque off; raises DriverError."""
        self._sent = None
        try:
            self._connected().let_go()
        except FeetechError as error:
            raise DriverError(str(error)) from error

    def close(self) -> None:
        """Close the port; the servos stay as they are."""
        if self._arm is not None:
            self._arm.disconnect()
            self._arm = None

    def _connected(self) -> ServoArm:
        if self._arm is None:
            raise DriverError(f"{self.description}: not connected")
        return self._arm

    def _ask(self, arm: ServoArm, now: float) -> tuple[str, ...]:
        """Ask for one of the values by turns, every now and then; what is wrong by what is known."""
        if now - self._asked_at >= self._settings.values_every:
            name, register, unit = _VALUES[self._asked % len(_VALUES)]
            self._values = self._values | {
                name.format(servo): value * unit for servo, value in arm.ask(register).items()
            }
            self._asked, self._asked_at = self._asked + 1, now
        hottest, title = self._settings.hottest, _VALUES[0][0]
        return tuple(
            f"{self.description}: {servo} has {self._values[title.format(servo)]:g} degC, expected below {hottest:g}; "
            "let it cool down"
            for servo in (*self._joints, GRIPPER)
            if self._values.get(title.format(servo), 0.0) >= hottest
        )


def make(robot: RobotModel, settings: Mapping[str, Any], source: str) -> ServoDevice:
    """An arm of servos that is `robot`; `source` names the file of the `settings`.

    Raises:
        ConfigError: the settings are wrong, or the robot's gripper is no jaw.
    """
    jaw = robot.gripper.jaw
    if jaw is None:
        raise ConfigError(f"{source}: 'robot': expected one whose gripper has a 'jaw', found {robot.name!r}")
    return ServoDevice(robot, jaw, build(ServoSettings, dict(settings), source))
