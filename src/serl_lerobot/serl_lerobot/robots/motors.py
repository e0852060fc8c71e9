# SPDX-License-Identifier: Apache-2.0
"""Torque and temperature of the motors that a LeRobot robot has on a serial bus, by LeRobot's own bus."""

from __future__ import annotations

import termios
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from serl_drivers.device import DriverError

_NEEDED: Final = ("Torque_Enable", "Goal_Position", "Present_Position")
_TEMPERATURE: Final = "Present_Temperature"
_RETRIES: Final = 2
# Where a port is gone pyserial also fails in its own members.
_ERRORS: Final = (OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError, termios.error)


@contextmanager
def lerobot_errors(who: str) -> Iterator[None]:
    """Say as `DriverError` what LeRobot, its bus or the port raises; `who` is the robot and where it is."""
    try:
        yield
    except _ERRORS as error:
        raise DriverError(f"{who}: {type(error).__name__}: {' '.join(str(error).split())}") from error


class Motors:
    """Motors at `robot.bus`. Every method raises what LeRobot raises."""

    def __init__(self, bus: Any) -> None:
        """Take the bus of a robot that `has_motors`."""
        self._bus = bus
        self._configured = False

    def connect(self) -> None:
        """Open the port and find the motors; torque stays as it is."""
        self._bus.connect()

    def without_torque(self) -> list[str]:
        """Names of those that are switched off."""
        found = self._bus.sync_read("Torque_Enable", normalize=False, num_retry=_RETRIES)
        return [name for name, on in found.items() if not on]

    def calibrate(self, robot: Any) -> bool:
        """Write the robot's calibration into motors that have another one, without torque; whether that was needed."""
        if robot.is_calibrated:
            return False
        self.switch_off()
        self._bus.write_calibration(robot.calibration)
        return True

    def stand(self, robot: Any) -> None:
        """Send each to where it is, then switch those on that are off; the first time as LeRobot configures them."""
        positions = self._bus.sync_read("Present_Position", normalize=False, num_retry=_RETRIES)
        self._bus.sync_write("Goal_Position", positions, normalize=False)
        off = self.without_torque()
        if off and not self._configured:
            robot.configure()  # switches all of them off and on
            self._configured = True
            off = self.without_torque()
        if off:
            self._bus.enable_torque(off, num_retry=_RETRIES)

    def switch_off(self) -> None:
        """Torque off, of each motor whatever the others answer; raises the first error."""
        first: Exception | None = None
        for name in self._bus.motors:
            try:
                self._bus.disable_torque(name, num_retry=_RETRIES)
            except (OSError, RuntimeError, termios.error) as error:
                first = first or error
        if first is not None:
            raise first

    def forget_answers(self) -> None:
        """Drop what has arrived: LeRobot takes an answer that came too late for that to its next question."""
        serial = getattr(getattr(self._bus, "port_handler", None), "ser", None)
        if serial is not None:
            serial.reset_input_buffer()

    def temperatures(self) -> dict[str, float]:
        """Temperature of each motor [degC]; nothing where they tell none."""
        if not _has(self._bus, (_TEMPERATURE,)):
            return {}
        found = self._bus.sync_read(_TEMPERATURE, normalize=False)
        return {name: float(value) for name, value in found.items()}

    def disconnect(self) -> None:
        """Close the port; torque stays as it is."""
        self._bus.disconnect(disable_torque=False)


def has_motors(robot: Any) -> bool:
    """Whether a robot's motors are on one bus whose torque can be read and switched."""
    bus = getattr(robot, "bus", None)
    return bus is not None and hasattr(bus, "sync_read") and _has(bus, _NEEDED)


def _has(bus: Any, registers: tuple[str, ...]) -> bool:
    tables = getattr(bus, "model_ctrl_table", {})
    models = {motor.model for motor in bus.motors.values()}
    return all(name in tables.get(model, {}) for model in models for name in registers)
