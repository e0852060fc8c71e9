# SPDX-License-Identifier: Apache-2.0
"""AgileX Piper on a CAN bus, by the vendor's SDK. Needs the extra `piper`."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import numpy as np
from serl_config.schema import ConfigError, Field, build, config
from serl_robots.model.robot import RobotModel

from serl_drivers.device import DriverError, Joints, Reading
from serl_drivers.piper import frames, units
from serl_drivers.piper.emulator import EmulatedPiper
from serl_drivers.piper.link import LinkError, PiperLink, load_sdk

LOWER: Final = np.radians([-150.0, 0.0, -170.0, -100.0, -70.0, -120.0])
"""float64[6] [rad], of the vendor's table, which its SDK keeps only where it is asked to."""
UPPER: Final = np.radians([150.0, 180.0, 0.0, 100.0, 70.0, 120.0])
OPENING: Final = 0.07
"""Widest opening of the gripper [m]."""

_FEEDBACK: Final = (frames.STATUS, *frames.JOINT_FEEDBACK, frames.GRIPPER_FEEDBACK, *frames.FAST_FEEDBACK)
_NUMBERS: Final = range(1, frames.JOINTS + 1)
_SLOW_PATIENCE: Final = 2.0  # [s], for frames that come some 25 times a second
_SWITCHING: Final = 0.15  # [s] that a call waits for motors to be on, or off
_POLL: Final = 0.005  # [s]
_GRIPPER_ENABLED: Final = 1
_HARMLESS: Final = frozenset({0x00, 0x0B, 0x0C, 0x0D})  # states of the arm: normal, and records of teaching
_OTHERS: Final = frozenset({2, 6})  # modes of control in which the arm follows somebody else: teaching, linkage


@config(kw_only=True)
class PiperSettings:
    """Which Piper, and how it is driven."""

    port: str = Field(default="can0", min_length=1, description="name of the CAN bus")
    interface: str = Field(default="socketcan", description="kind of bus, as python-can calls it")
    bitrate: int = Field(default=1_000_000, ge=10_000, le=1_000_000, description="of the bus [bit/s]")
    emulated: bool = Field(default=False, description="an arm that is not there, on a bus within the process")
    speed: float = Field(default=1.0, gt=0.0, le=1.0, description="of the joints, as a share of the arm's own limit")
    gripper_torque: float = Field(default=1.0, gt=0.0, le=5.0, description="with which it closes [N m]")
    feedback_timeout: float = Field(
        default=0.05, gt=0.0, le=5.0, description="time after which a kind of frame is missing [s]"
    )
    connect_timeout: float = Field(default=5.0, gt=0.0, le=9.0, description="time that the arm has to answer [s]")


class PiperDevice:
    """See `serl_drivers.device.ArmDevice`. Joints are commanded in the arm's mode of position and velocity.

    The arm goes to its last target and stays there when nobody sends another one, so it holds when this process, or
    the bus, is gone. Without torque it falls.
    """

    def __init__(self, settings: PiperSettings) -> None:
        """Name the arm; nothing is opened but the bus of an emulated one."""
        self._settings = settings
        self._interface = "virtual" if settings.emulated else settings.interface
        self._speed = round(100.0 * settings.speed)
        self._gripper_torque = units.torque_count(settings.gripper_torque)
        self._connected: PiperLink | None = None
        self.emulated: EmulatedPiper | None = None
        """The arm that is not there, once it is connected."""

    @property
    def description(self) -> str:
        """What it is and where."""
        return f"Piper at {self._interface} {self._settings.port}" + (" (emulated)" if self._settings.emulated else "")

    def connect(self) -> None:
        """Open the bus, and find an arm that answers. No motor is switched on or off.

        Raises:
            DriverError: no SDK, no bus, no arm, or one that follows somebody else.
        """
        self.close()
        settings = self._settings
        try:
            load_sdk()
            if settings.emulated and self.emulated is None:
                self.emulated = EmulatedPiper(settings.port).start()
            self._connected = link = PiperLink(settings.port, self._interface, settings.bitrate)
        except LinkError as error:
            raise self._error(str(error)) from error
        try:
            heard = self._within(
                settings.connect_timeout,
                lambda: (
                    not link.silent(_FEEDBACK, time.monotonic(), settings.feedback_timeout)
                    and not self._slow_missing(link)
                ),
            )
            if not heard:
                raise self._lost(link)
            self._check_control(link)
        except DriverError:
            self.close()
            raise

    def limp(self) -> str:
        """Which joints have motors that are off."""
        flags = _motor_flags(self._link())
        return ", ".join(f"joint {number}" for number, each in zip(_NUMBERS, flags, strict=True) if not each.enabled)

    def read(self) -> Reading:
        """Where the arm is, by the newest frames.

        Raises:
            DriverError: a kind of frame has been missing for too long, or the bus is off.
        """
        link = self._link()
        self._check_alive(link)
        joints = link.sdk.GetArmJointMsgs().joint_state
        gripper = link.sdk.GetArmGripperMsgs().gripper_state
        motors = _motors(link.sdk.GetArmHighSpdInfoMsgs())
        currents = np.array([motor.current * units.CURRENT for motor in motors])
        values: dict[str, float] = {}
        for number, motor, current in zip(_NUMBERS, _motors(link.sdk.GetArmLowSpdInfoMsgs()), currents, strict=True):
            values[f"temperature of joint {number} [degC]"] = float(motor.motor_temp)
            values[f"temperature of the driver of joint {number} [degC]"] = float(motor.foc_temp)
            values[f"voltage of joint {number} [V]"] = motor.vol * units.VOLTAGE
            values[f"current of joint {number} [A]"] = float(current)
        values["damaged frames"] = float(link.damaged)
        return Reading(
            positions=units.angles(getattr(joints, f"joint_{number}") for number in _NUMBERS),
            velocities=np.array([motor.motor_speed * units.SPEED for motor in motors]),
            width=gripper.grippers_angle * units.LENGTH,
            efforts=currents * np.array(units.TORQUE_OF_CURRENT),
            values=values,
            faults=tuple(self._faults(link)),
        )

    def hold(self) -> None:
        """Stand where the arm is, with torque.

        Each motor's target is where it is before any is switched on: one that has missed it would go where it was sent
        last. An arm that says that something is wrong with it is not switched on.

        Raises:
            DriverError: lost, a fault, or motors that are not on yet: ask again.
        """
        link, reading = self._link(), self.read()
        self._check_control(link)
        self.write(reading.positions, reading.width)
        if all(flags.enabled for flags in _motor_flags(link)):
            return
        if reading.faults:
            raise self._error("; ".join(reading.faults) + "; see to that, then switch the arm off and on")
        with self._sending():
            for motor in _NUMBERS:
                link.sdk.EnableArm(motor)
        if not self._within(_SWITCHING, lambda: all(flags.enabled for flags in _motor_flags(link))):
            off = [str(number) for number, flags in zip(_NUMBERS, _motor_flags(link), strict=True) if not flags.enabled]
            raise self._error(
                f"expected motors with torque, found joints {', '.join(off)} without; asked for, try again"
            )
        self.write(reading.positions, reading.width)

    def write(self, positions: Joints, width: float) -> None:
        """Go to `positions` (6,) [rad] and an opening [m], no further than the vendor's table says.

        Raises:
            DriverError: the bus does not take it, or one of them is no number; then nothing is sent.
        """
        link = self._link()
        try:
            counts = units.angle_counts(np.clip(positions, LOWER, UPPER))
            opening = units.length_count(min(max(width, 0.0), OPENING) if width == width else width)
        except ValueError as error:
            raise self._error(f"a target was refused: {error}; look at who commands the arm") from error
        with self._sending():
            link.sdk.MotionCtrl_2(frames.CAN_CONTROL, frames.MOVE_JOINTS, self._speed, frames.POSITION_VELOCITY)
            link.sdk.JointCtrl(*counts)
            link.sdk.GripperCtrl(opening, self._gripper_torque, _GRIPPER_ENABLED, 0)

    def release(self) -> None:
        """Switch the motors off, those of the joints and that of the gripper: the arm falls.

        Raises:
            DriverError: lost, or motors that are not off yet: ask again.
        """
        link = self._link()
        with self._sending():
            for motor in _NUMBERS:
                link.sdk.DisableArm(motor)
            link.sdk.GripperCtrl(0, 0, 0, 0)
        if not self._within(_SWITCHING, lambda: not any(flags.enabled for flags in _motor_flags(link))):
            self._check_alive(link)
            raise self._error("expected motors without torque, found some with; asked for, try again")

    def close(self) -> None:
        """Leave the bus; the arm stays as it is."""
        if self._connected is not None:
            self._connected.close()
            self._connected = None

    def _link(self) -> PiperLink:
        if self._connected is None:
            raise self._error("not connected")
        return self._connected

    def _within(self, seconds: float, done: Callable[[], bool]) -> bool:
        """Whether it becomes so in time, on a bus that works."""
        deadline = time.monotonic() + seconds
        while not done():
            problem = self._link().problem
            if problem is not None:
                raise self._error(problem)
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL)
        return True

    def _slow_missing(self, link: PiperLink) -> list[int]:
        return link.silent(frames.SLOW_FEEDBACK, time.monotonic(), max(_SLOW_PATIENCE, self._settings.feedback_timeout))

    def _check_alive(self, link: PiperLink) -> None:
        silent = link.silent(_FEEDBACK, time.monotonic(), self._settings.feedback_timeout)
        if link.problem is not None or silent or self._slow_missing(link):
            raise self._lost(link)

    def _lost(self, link: PiperLink) -> DriverError:
        now = time.monotonic()
        if link.problem is not None:
            return self._error(link.problem)
        silent = link.silent(_FEEDBACK, now, self._settings.feedback_timeout) + self._slow_missing(link)
        if len(silent) < len(_FEEDBACK):
            found = ", ".join(hex(each) for each in silent)
            return self._error(f"frames {found} are missing, others come; look for another sender, and the bus's load")
        age = link.age((min(silent, key=lambda each: link.age((each,), now)),), now)
        since = "nothing was heard" if age == float("inf") else f"nothing was heard for {age:.2f} s"
        return self._error(f"{since}; look at the arm's power and emergency stop, the CAN adapter and its cable")

    def _check_control(self, link: PiperLink) -> None:
        stranger = _stranger(link)
        if stranger is not None:
            raise self._error(stranger)

    def _faults(self, link: PiperLink) -> list[str]:
        status = link.sdk.GetArmStatus().arm_status
        found, state = [], int(status.arm_status)
        if state not in _HARMLESS:
            found.append(frames.ARM_STATES.get(state, f"unknown state {state:#x}"))
        stranger = _stranger(link)
        if stranger is not None:
            found.append(stranger)
        for number in _NUMBERS:
            if status.err_code >> (7 + number) & 1:
                found.append(f"joint {number} is beyond its limit")
            if status.err_code >> (number - 1) & 1:
                found.append(f"joint {number} does not communicate")
        for number, flags in zip(_NUMBERS, _motor_flags(link), strict=True):
            found += [f"joint {number}: {fault}" for fault in flags.faults]
        gripper = frames.GripperFlags(link.sdk.GetArmGripperMsgs().gripper_state.status_code)
        return found + [f"gripper: {fault}" for fault in gripper.faults]

    @contextlib.contextmanager
    def _sending(self) -> Iterator[None]:
        try:
            yield
        except LinkError as error:
            raise self._error(str(error)) from error

    def _error(self, text: str) -> DriverError:
        return DriverError(f"{self.description}: {text}")


def make(robot: RobotModel, settings: Mapping[str, Any], source: str) -> PiperDevice:
    """A Piper that is `robot`; `source` names the file of the `settings`.

    Raises:
        ConfigError: the settings are wrong, or the robot has another number of joints.
    """
    if len(robot.arm_joints) != frames.JOINTS:
        raise ConfigError(
            f"{source}: 'robot': expected one of {frames.JOINTS} joints, found {robot.name!r} of "
            f"{len(robot.arm_joints)}"
        )
    return PiperDevice(build(PiperSettings, dict(settings), source))


def _stranger(link: PiperLink) -> str | None:
    """Whom the arm follows, if not this bus."""
    mode = int(link.sdk.GetArmStatus().arm_status.ctrl_mode)
    return (
        f"it follows {frames.CONTROL_MODES[mode]}, not this bus; leave that by its button" if mode in _OTHERS else None
    )


def _motors(message: Any) -> list[Any]:
    return [getattr(message, f"motor_{number}") for number in _NUMBERS]


def _motor_flags(link: PiperLink) -> list[frames.MotorFlags]:
    return [frames.MotorFlags(motor.foc_status_code) for motor in _motors(link.sdk.GetArmLowSpdInfoMsgs())]
