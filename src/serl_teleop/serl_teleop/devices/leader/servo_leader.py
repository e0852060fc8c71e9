# SPDX-License-Identifier: Apache-2.0
"""An SO-101 leader, or another arm of STS3215 servos, at a serial port."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from serl_config.files import FileError
from serl_feetech.arm import ServoArm
from serl_feetech.bus import Bus
from serl_feetech.calibration import Calibration, CalibrationError, read_calibration
from serl_feetech.errors import FeetechError
from serl_feetech.found import only_calibration, only_port
from serl_feetech.port import Port, SerialPort

from serl_teleop.devices.device import DeviceError
from serl_teleop.devices.leader.arm import LeaderReading
from serl_teleop.devices.leader.chain import Joints

_KINDS: Final = tuple(f"teleoperators/{name}" for name in ("so_leader", "so101_leader", "so100_leader"))


class ServoLeader:
    """Drives one; see `LeaderHardware`."""

    is_driven = True

    def __init__(self, port: Port, calibration: Calibration, source: str, torque: float, held_torque: float) -> None:
        """Find its servos; its torque is off until it is sent somewhere.

        Args:
            port: that is open; closed here if the arm is not there.
            calibration: of the arm.
            source: file of the calibration, for people.
            torque: share of the servos' torque with which it follows, in (0, 1].
            held_torque: share with which it stays where a hand has left it.

        Raises:
            DeviceError: a servo is missing, or something is wrong with it or the calibration.
        """
        names = {servo.id: name for name, servo in calibration.items()}
        try:
            self._arm = ServoArm(Bus(port, names), calibration, source)
        except (FeetechError, CalibrationError) as error:
            port.close()
            raise DeviceError(str(error)) from error
        self._torques = {False: torque, True: held_torque}
        self._held: bool | None = None

    @property
    def description(self) -> str:
        """What it is and where."""
        return f"leader {self._arm.description}"

    @property
    def limits(self) -> tuple[Joints, Joints]:
        """Smallest and largest angles (n,) [rad]."""
        return self._arm.lower, self._arm.upper

    def read(self, now: float) -> LeaderReading:
        """Where it is; see `LeaderHardware`.

        Raises:
            DeviceError: a servo does not answer, or is too hot or overloaded.
        """
        try:
            reading = self._arm.read()
        except FeetechError as error:
            raise DeviceError(str(error)) from error
        return LeaderReading(reading.angles, min(max(reading.gripper, 0.0), 1.0))

    def send(self, joints: Joints, handle: float, *, held: bool) -> None:
        """Go there; see `LeaderHardware`.

        Raises:
            DeviceError: the port is gone, or a servo does not answer.
        """
        try:
            if self._held is None:
                self._arm.hold(self._torques[held])
            elif self._held != held:
                self._arm.limit_torque(self._torques[held])
            self._held = held
            self._arm.go_to(joints, handle)
        except FeetechError as error:
            raise DeviceError(str(error)) from error

    def close(self) -> None:
        """Make it limp, and close its port. A second call does nothing."""
        self._arm.close()


def open_servo_leader(port: str, calibration: str, torque: float, held_torque: float) -> ServoLeader:
    """Open the leader that is plugged in.

    Args:
        port: its device file; empty: the only serial adapter there is.
        calibration: file of LeRobot; empty: the only one that LeRobot has made of a leader.
        torque: as of `ServoLeader`.
        held_torque: the same.

    Raises:
        DeviceError: it cannot be told which one is meant, or it does not answer.
    """
    try:
        file = Path(calibration).expanduser() if calibration else only_calibration("leader.calibration", _KINDS)
        servos = read_calibration(file)
        device = SerialPort(port or only_port("leader.port"))
    except (FeetechError, FileError, CalibrationError) as error:
        raise DeviceError(str(error)) from error
    return ServoLeader(device, servos, str(file), torque, held_torque)
