# SPDX-License-Identifier: Apache-2.0
"""An arm of servos, calibrated: angles of its joints, and the opening of its gripper or handle."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from serl_feetech import registers
from serl_feetech.bus import Bus
from serl_feetech.calibration import Calibration, CalibrationError, ServoCalibration, check_calibration
from serl_feetech.errors import FeetechError, PortError
from serl_feetech.registers import TURN, Register

SO_ARM: Final = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")
"""Names of the servos of an SO-100 or SO-101, leader or follower, as LeRobot calls them; their ids are 1 to 6."""
GRIPPER: Final = "gripper"

_ANGLE: Final = 2.0 * math.pi / TURN  # [rad] of a step
_POSITION_MODE: Final = 0


@dataclass(frozen=True)
class ArmReading:
    """Where an arm is."""

    angles: NDArray[np.float64]
    """(n,) of the joints [rad], from the middles of their ranges."""
    gripper: float
    """Opening of the gripper or handle, 0 closed to 1 open; it may go a little beyond."""


class ServoArm:
    """Servos of an arm on a bus. Torque is as it was found until `hold` or `let_go`."""

    def __init__(self, bus: Bus, calibration: Calibration, source: str) -> None:
        """Find the servos and bring their calibration into them, as LeRobot does.

        Args:
            bus: that they are on.
            calibration: of the joints from the base to the tool, and of `gripper`.
            source: file of the calibration, for people.

        Raises:
            CalibrationError: it lacks `gripper`, or has nothing else.
            FeetechError: a servo does not answer, is another model, or says that something is wrong with it.
        """
        check_calibration(calibration, source)
        if GRIPPER not in calibration or len(calibration) < 2:
            raise CalibrationError(f"{source}: expected joints and {GRIPPER}, found {', '.join(calibration)}")
        self._bus = bus
        self.joints = tuple(name for name in calibration if name != GRIPPER)
        """Names, in the order of the calibration."""
        joints = [calibration[name] for name in self.joints]
        self._gripper = calibration[GRIPPER]
        self._ids = tuple(servo.id for servo in (*joints, self._gripper))
        self._middles = np.array([0.5 * (servo.range_min + servo.range_max) for servo in joints])
        self._signs = np.array([-1.0 if servo.drive_mode else 1.0 for servo in joints])
        half = np.array([0.5 * (servo.range_max - servo.range_min) for servo in joints]) * _ANGLE
        self.lower, self.upper = -half, half
        """(n,) ends of the joints' ranges [rad]."""
        for name, servo in calibration.items():
            self._prepare(name, servo)

    @property
    def description(self) -> str:
        """What it is and where."""
        return f"arm of {len(self._ids)} servos at {self._bus.port.name}"

    def read(self) -> ArmReading:
        """Where it is.

        Raises:
            FeetechError: a servo does not answer, or says that something is wrong with it.
        """
        steps = self._bus.sync_read(self._ids, registers.PRESENT_POSITION)
        angles = (np.array([steps[each] for each in self._ids[:-1]]) - self._middles) * _ANGLE * self._signs
        low, high = self._gripper.range_min, self._gripper.range_max
        share = (steps[self._gripper.id] - low) / (high - low)
        return ArmReading(angles, 1.0 - share if self._gripper.drive_mode else share)

    def ask(self, register: Register) -> dict[str, int]:
        """What a register of each servo holds at one moment, by the servo's name; raises as `read`."""
        steps = self._bus.sync_read(self._ids, register)
        return {name: steps[servo] for name, servo in zip((*self.joints, GRIPPER), self._ids, strict=True)}

    def hold(self, torque: float, grip: float | None = None) -> None:
        """Stand where it is, with a share of its torque in (0, 1].

        Each servo says that it has heard its limit and its goal before any torque is switched on: one that has missed
        its goal would go where it was sent last, at full speed.

        Args:
            torque: share.
            grip: that of the gripper or handle, which presses with it on what it holds; None: as `torque`.

        Raises:
            ValueError: no such share; nothing is written.
            FeetechError: as `read`; the torque of a part of the servos may be on by then: `let_go`, or `close`.
        """
        limit, grip_limit = _torque_limit(torque), _torque_limit(torque if grip is None else grip)
        steps = self._bus.sync_read(self._ids, registers.PRESENT_POSITION)
        for servo in self._ids:
            self._bus.write(servo, registers.TORQUE_LIMIT, grip_limit if servo == self._gripper.id else limit)
        for servo, position in steps.items():
            self._bus.write(servo, registers.GOAL_POSITION, position)
        self._all(registers.TORQUE_ENABLE, 1)

    def limit_torque(self, torque: float) -> None:
        """Hold on with another share of the torque, in (0, 1], as each servo says it has heard; raises as `hold`."""
        self._all(registers.TORQUE_LIMIT, _torque_limit(torque))

    def go_to(self, angles: NDArray[np.float64], gripper: float) -> None:
        """Go to angles (n,) [rad] and an opening, no further than the ranges; at once, and as fast as it can.

        No servo says that it has heard: who misses one goal takes the next.

        Raises:
            ValueError: another number of angles, or one of them or the opening is not finite; nothing is sent.
            FeetechError: the port is gone.
        """
        wanted = np.asarray(angles, dtype=np.float64)
        if wanted.shape != self._middles.shape or not (np.isfinite(wanted).all() and math.isfinite(gripper)):
            raise ValueError(
                f"{self.description}: expected {len(self.joints)} finite angles and a finite opening, found "
                f"{wanted.tolist()} and {gripper}"
            )
        steps = np.clip(wanted, self.lower, self.upper) * self._signs / _ANGLE + self._middles
        share = min(max(gripper, 0.0), 1.0)
        share = 1.0 - share if self._gripper.drive_mode else share
        low, high = self._gripper.range_min, self._gripper.range_max
        goals = [*np.rint(steps).astype(int).tolist(), round(low + share * (high - low))]
        self._bus.sync_write(registers.GOAL_POSITION, dict(zip(self._ids, goals, strict=True)))

    def let_go(self) -> None:
        """Switch the torque off, of each servo whatever the others answer.

        Raises:
            FeetechError: as `read`; the first of several.
        """
        first: FeetechError | None = None
        self._bus.sync_write(registers.TORQUE_ENABLE, dict.fromkeys(self._ids, 0))  # all at once, if they hear it
        for servo in self._ids:
            try:
                self._bus.write(servo, registers.TORQUE_ENABLE, 0)
            except PortError:
                raise
            except FeetechError as error:
                first = error if first is None else first
        if first is not None:
            raise first

    def disconnect(self) -> None:
        """Close the port, and leave the torque as it is. A second call does nothing."""
        self._bus.close()

    def close(self) -> None:
        """Switch the torque off, if anything still listens, and close the port. A second call does nothing."""
        try:
            self.let_go()
        except FeetechError:
            pass  # it is gone, and has been said to be
        finally:
            self._bus.close()

    def _prepare(self, name: str, servo: ServoCalibration) -> None:
        """Check a servo, and write into it what its calibration says and it does not."""
        bus, port = self._bus, self._bus.port.name
        model = bus.read(servo.id, registers.MODEL_NUMBER)
        if model != registers.MODEL:
            raise FeetechError(
                f"{port}: servo {servo.id} ({name}): expected an STS3215 (model {registers.MODEL}), found model {model}"
            )
        wanted: Mapping[Register, int] = {
            registers.HOMING_OFFSET: servo.homing_offset,
            registers.MIN_POSITION: min(max(servo.range_min, 0), TURN - 1),
            registers.MAX_POSITION: min(max(servo.range_max, 0), TURN - 1),
            registers.MODE: _POSITION_MODE,
            registers.RETURN_DELAY: 0,
        }
        differing = {register: value for register, value in wanted.items() if bus.read(servo.id, register) != value}
        if not differing:
            return
        bus.write(servo.id, registers.TORQUE_ENABLE, 0)  # its goal would mean another place
        bus.write(servo.id, registers.LOCK, 0)
        for register, value in differing.items():
            bus.write(servo.id, register, value)
        bus.write(servo.id, registers.LOCK, 1)

    def _all(self, register: Register, value: int) -> None:
        """Write one value to all of them, and know that they have heard it."""
        for servo in self._ids:
            self._bus.write(servo, register, value)


def _torque_limit(share: float) -> int:
    """Value of `TORQUE_LIMIT` for a share in (0, 1]; raises ValueError for any other."""
    if not 0.0 < share <= 1.0:  # also of NaN
        raise ValueError(f"torque: expected a share in (0, 1], found {share}")
    return max(1, round(1000.0 * share))
