# SPDX-License-Identifier: Apache-2.0
"""A Robotiq 2F-85 or 2F-140: a thread asks and tells it, as question and answer take longer than an arm's turn."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from serl_config.schema import ConfigError, Field, build, config
from serl_feetech.emulated.pseudo_terminal import PseudoTerminal
from serl_feetech.errors import PortError
from serl_feetech.port import SerialPort
from serl_robots.model.robot import RobotModel

from serl_drivers.device import DriverError
from serl_drivers.gripper import GripperReading
from serl_drivers.robotiq import registers
from serl_drivers.robotiq.emulator import EmulatedRobotiq
from serl_drivers.robotiq.modbus import ModbusClient, ModbusError
from serl_drivers.robotiq.registers import Scale, Status

OPENINGS: Final = {"2F-85": 0.085, "2F-140": 0.140}
"""Widest opening [m] of each model."""
_FULL: Final = 255
_END_PATIENCE: Final = 1.0  # [s] for the thread


@config(kw_only=True)
class RobotiqSettings:
    """Which gripper of Robotiq, and how it is driven."""

    port: str = Field(default="", description="serial port, as /dev/serial/by-id/...")
    emulated: bool = Field(default=False, description="a gripper that is not there, at a pseudo-terminal")
    model: Literal["2F-85", "2F-140"] = Field(default="2F-85", description="which of them")
    slave: int = Field(default=registers.DEVICE, ge=1, le=247, description="its number on the wire")
    open_count: int = Field(default=3, ge=0, le=100, description="position that it tells when it is fully open")
    closed_count: int = Field(default=230, ge=101, le=255, description="position that it tells when it is closed")
    speed: float = Field(default=1.0, ge=0.0, le=1.0, description="share of its speed: 20 to 150 mm/s of a 2F-85")
    force: float = Field(default=0.2, ge=0.0, le=1.0, description="share of its force: 20 to 235 N of a 2F-85")
    squeeze: float = Field(
        default=0.004, ge=0.0, le=0.05, description="how much narrower than what it holds it is sent, at most [m]"
    )
    period: float = Field(default=0.02, ge=0.005, le=0.1, description="between two questions [s]")
    answer_timeout: float = Field(default=0.05, gt=0.0, le=1.0, description="for one answer [s]")
    feedback_timeout: float = Field(
        default=0.15, gt=0.0, le=5.0, description="time after which a state is an old one [s]"
    )


@dataclass
class _Asked:
    """What was asked for since the thread has looked last."""

    count: int | None = None
    stay: bool = False
    activate: bool = False


class RobotiqGripper:
    """See `serl_drivers.gripper.GripperDevice`.

    It is activated when somebody asks for it and never else: its fingers open and close for that. One that has met
    something is sent no more than `squeeze` beyond it until it is to open again, so it holds, with its own force.
    """

    def __init__(self, settings: RobotiqSettings) -> None:
        """Name the gripper; nothing is opened."""
        self._settings = settings
        self._scale = Scale(settings.open_count, settings.closed_count, OPENINGS[settings.model])
        self._squeeze = math.ceil(
            settings.squeeze / OPENINGS[settings.model] * (settings.closed_count - settings.open_count)
        )
        self.emulated: PseudoTerminal[EmulatedRobotiq] | None = None
        """The gripper that is not there, once it is connected."""
        self._client: ModbusClient | None = None
        self._lock = threading.Lock()
        self._asked = _Asked()
        self._status: Status | None = None
        self._heard_at, self._problem = -math.inf, ""
        self._held: int | None = None  # where it has met something as it closed [count]
        self._sent: int | None = None
        self._end, self._thread = threading.Event(), threading.Thread()

    @property
    def description(self) -> str:
        """What it is and where."""
        where = "emulated" if self._settings.emulated else self._settings.port
        return f"Robotiq {self._settings.model} at {where}"

    @property
    def holds(self) -> bool:
        """Whether it has met something as it closed, and holds it."""
        return self._held is not None

    def connect(self) -> None:
        """Open the port and ask how it is; it does not move.

        Raises:
            DriverError: no port, or nobody that answers there.
        """
        self.close()
        settings, path = self._settings, self._settings.port
        if settings.emulated:
            if self.emulated is None:
                self.emulated = PseudoTerminal(EmulatedRobotiq(settings.slave))
            path = self.emulated.path
        try:
            port = SerialPort(path, registers.BAUD)
        except PortError as error:
            raise DriverError(str(error)) from error
        self._held, self._problem = None, ""
        client = ModbusClient(port, settings.slave, f"Robotiq {settings.model}", settings.answer_timeout)
        try:
            self._take(registers.decode_status(client.read(registers.STATUS, registers.REGISTERS)))
        except (ModbusError, PortError) as error:
            port.close()
            raise DriverError(str(error)) from error
        self._client, self._asked, self._sent = client, _Asked(), None
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(client, self._end), name="robotiq", daemon=True)
        self._thread.start()

    def read(self) -> GripperReading:
        """How it is, by the newest answer.

        Raises:
            DriverError: it is not connected, or does not answer any more.
        """
        status = self._newest()
        values = {
            "position of the gripper [count]": float(status.position),
            "current of the gripper [A]": status.current,
            "gripper holds something [1]": float(self.holds),
        }
        return GripperReading(self._scale.width(status.position), values, self._faults(status))

    def write(self, width: float) -> None:
        """Go to an opening [m]; raises DriverError where that is no number."""
        if not math.isfinite(width):
            raise DriverError(f"{self.description}: expected a finite opening [m], found {width}")
        with self._lock:
            self._asked.count = self._scale.count(width)

    def hold(self) -> None:
        """Stay where it is: forget what it has not been told yet, and what it has not reached unless it holds."""
        with self._lock:
            self._asked.count, self._asked.stay = None, not self.holds

    def release(self) -> None:
        """Go no further; the fingers keep their place, as its gear does not give way. Raises DriverError."""
        self._newest()
        with self._lock:
            self._asked.count, self._asked.stay = None, True

    def activate(self) -> None:
        """Begin to activate it: its fingers open and close.

        Raises:
            DriverError: it is not connected, does not answer, or is being activated already.
        """
        if self._newest().stage == registers.ACTIVATING:
            raise DriverError(f"{self.description}: it is being activated; wait until that is done")
        with self._lock:
            self._asked = _Asked(activate=True)

    def close(self) -> None:
        """End the thread and close the port; the gripper stays as it is, activated or not."""
        self._end.set()
        if self._thread.is_alive():
            self._thread.join(_END_PATIENCE)
        client, self._client = self._client, None
        if client is not None:
            client.port.close()

    # In the thread, while there is one

    def _run(self, client: ModbusClient, end: threading.Event) -> None:
        due = time.monotonic()
        while not end.is_set():
            try:
                self._turn(client)
            except PortError as error:
                self._problem = str(error)
                return
            except ModbusError as error:
                self._problem, self._sent = str(error), None
            due = max(due + self._settings.period, time.monotonic())
            end.wait(due - time.monotonic())

    def _turn(self, client: ModbusClient) -> None:
        with self._lock:
            asked, self._asked = self._asked, _Asked()
        status = self._status
        assert status is not None
        if asked.activate:
            self._held = self._sent = None
            client.write(registers.REQUEST, registers.CLEAR)
            client.write(registers.REQUEST, registers.STAY)
        elif status.stage == registers.ACTIVATED:
            if asked.stay:
                self._held = self._sent = None
                client.write(registers.REQUEST, registers.STAY)
            elif asked.count is not None:
                count = self._allowed(asked.count)
                if count != self._sent or not status.goes:
                    speed, force = round(_FULL * self._settings.speed), round(_FULL * self._settings.force)
                    client.write(registers.REQUEST, registers.go_to(count, speed, force))
                    self._sent = count
        self._take(registers.decode_status(client.read(registers.STATUS, registers.REGISTERS)))

    def _take(self, status: Status) -> None:
        """Look at what it says: where it has met something, and whether it has lost it."""
        self._status, self._heard_at = status, time.monotonic()
        if status.met == registers.CLOSING_STOPPED and self._held is None:
            self._held = status.position
        elif self._held is not None and (
            status.stage != registers.ACTIVATED
            or status.position > self._held + self._squeeze + 1
            or (status.met == registers.ARRIVED and status.position >= self._held)
        ):
            self._held = None  # nothing is between the fingers any more

    def _allowed(self, count: int) -> int:
        """The count that it may be sent to while it holds something."""
        if self._held is None:
            return count
        if count < self._held:
            self._held = None
            return count
        return min(count, self._held + self._squeeze)

    def _newest(self) -> Status:
        if self._client is None or self._status is None:
            raise DriverError(f"{self.description}: not connected")
        age = time.monotonic() - self._heard_at
        if age > self._settings.feedback_timeout:
            why = self._problem or "it does not answer"
            raise DriverError(f"{self.description}: nothing was heard for {age:.2f} s: {why}")
        return self._status

    def _faults(self, status: Status) -> tuple[str, ...]:
        if status.fault and status.fault != registers.SILENCE_FAULT:
            said = registers.FAULTS.get(status.fault, "which its manual does not know")
            return (f"{self.description}: fault {status.fault:#04x}: {said}, then driver/connect",)
        if status.stage == registers.ACTIVATING:
            return (f"{self.description}: it is being activated; wait, then call driver/connect",)
        if status.stage != registers.ACTIVATED:
            return (
                f"{self.description}: it is not activated; keep away from its fingers, which open and close then, call "
                "driver/activate, and driver/connect when they stand",
            )
        return ()


def make(robot: RobotModel, settings: Mapping[str, Any], source: str) -> RobotiqGripper:
    """A gripper at `robot`; `source` names the file of the `settings`.

    Raises:
        ConfigError: the settings are wrong, or the robot's gripper opens wider than this one.
    """
    built = build(RobotiqSettings, dict(settings), source)
    if not built.port and not built.emulated:
        raise ConfigError(f"{source}: 'port': expected the gripper's serial port, as /dev/serial/by-id/..., found none")
    opening = OPENINGS[built.model]
    if robot.gripper.max_width > opening:
        raise ConfigError(
            f"{source}: 'model': expected a gripper that opens as wide as that of robot {robot.name!r}, "
            f"{robot.gripper.max_width:g} m, found {built.model} with {opening:g} m; say so in the robot's file"
        )
    return RobotiqGripper(built)
