# SPDX-License-Identifier: Apache-2.0
"""Device `lerobot` of our drivers: an arm by the class that LeRobot, or a plug-in of it, has for it."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

import numpy as np
from serl_config.schema import ConfigError, Field, build, config
from serl_drivers.device import DriverError, Joints, Reading
from serl_feetech.calibration import CalibrationError
from serl_feetech.errors import PortError
from serl_feetech.found import only_calibration, only_port
from serl_robots.model.robot import RobotModel

from serl_lerobot.compat import LeRobotMissing
from serl_lerobot.robots.joint_map import FeatureError, JointMap, JointMapSettings
from serl_lerobot.robots.making import config_class, make_robot, robot_config
from serl_lerobot.robots.motors import Motors, has_motors, lerobot_errors

_SMOOTHING: Final = 0.03  # [s] over which a velocity is an average
_KEPT: Final = 0.15  # [rad] from where a joint was sent, within which to hold it is to send it there again
_log = logging.getLogger(__name__)


@config(kw_only=True)
class LeRobotSettings(JointMapSettings):
    """Which robot of LeRobot, and what its numbers mean."""

    type: str = Field(min_length=1, description="as --robot.type of LeRobot's commands")
    port: str = Field(default="", description="serial port; empty: the only serial adapter there is, where one is used")
    calibration: str = Field(default="", description="its file; empty: the only one that LeRobot has of this type")
    options: dict[str, Any] = Field(default_factory=dict, description="other fields of the type's configuration")
    hottest: float = Field(default=65.0, gt=0.0, le=80.0, description="from which it is not commanded [degC]")
    values_every: float = Field(default=0.2, ge=0.02, le=10.0, description="between two questions for torque, heat [s]")


class LeRobotDevice:
    """See `serl_drivers.device.ArmDevice`.

    LeRobot's own `connect` switches the torque on. Where motors are on a bus this does not call it: it opens the bus,
    leaves the torque as it finds it, and lets LeRobot configure the motors when they are first told to hold.
    """

    def __init__(
        self,
        robot: RobotModel,
        settings: LeRobotSettings,
        source: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Name the robot; LeRobot is imported by `connect`.

        Args:
            robot: that it is.
            settings: of its class, and what its numbers mean.
            source: file of these, for people.
            clock: monotonic time [s].

        Raises:
            ConfigError: they are for an arm with other joints.
        """
        try:
            self._map = JointMap(robot, settings)
        except FeatureError as error:
            raise ConfigError(f"{source}: {error}") from error
        self._settings, self._source, self._clock = settings, source, clock
        self._port = settings.port
        self._robot: Any = None
        self._motors: Motors | None = None
        self._let_go = False
        self._last: tuple[float, Joints] | None = None
        self._velocities = np.zeros(len(robot.arm_joints))
        self._width = 0.0
        self._sent: tuple[Joints, float] | None = None
        self._doubtful = False  # an answer may still be on its way
        self._temperatures: dict[str, float] = {}
        self._hot: set[str] = set()
        self._off: set[str] = set()
        self._faults: tuple[str, ...] = ()
        self._asked_at = -math.inf

    @property
    def description(self) -> str:
        """What it is and where."""
        return f"LeRobot's {self._settings.type}" + (f" at {self._port}" if self._port else "")

    def connect(self) -> None:
        """Make LeRobot's robot and open its connection, see the class.

        Raises:
            DriverError: LeRobot is not installed or knows no such robot, there is no calibration, nothing answers, or
                the robot has other joints than the settings say.
        """
        self.close()
        try:
            made = self._make()
        except (LeRobotMissing, ConfigError, PortError, CalibrationError) as error:
            raise DriverError(str(error)) from error
        try:
            self._map.check(made.observation_features, f"{self.description} tells")
            self._map.check(made.action_features, f"{self.description} takes")
        except FeatureError as error:
            raise DriverError(str(error)) from error
        with lerobot_errors(self.description):
            if has_motors(made):
                self._connect_motors(made, Motors(made.bus))
            else:
                made.connect(calibrate=False)
                if not made.is_calibrated:
                    made.disconnect()
                    raise DriverError(f"{self.description}: it is not calibrated; lerobot-calibrate does that")
        self._robot = made
        self._last = self._sent = None
        self._velocities = np.zeros_like(self._velocities)
        self._temperatures, self._asked_at = {}, -math.inf
        self._hot, self._off, self._faults = set(), set(), ()
        self._let_go = bool(self.limp())

    def limp(self) -> str:
        """Which motors have no torque; empty also where the robot does not tell. Raises DriverError."""
        robot, motors = self._connected()
        with lerobot_errors(self.description):
            return "" if motors is None or robot is None else ", ".join(motors.without_torque())

    def read(self) -> Reading:
        """Where it is; raises DriverError."""
        robot, motors = self._connected()
        now = self._clock()
        with lerobot_errors(self.description):
            if motors is not None and self._doubtful:
                motors.forget_answers()
            self._doubtful = True
            positions, width = self._map.ours(robot.get_observation())
            faults = () if motors is None else self._ask(motors, now)
            self._doubtful = False
        if self._last is not None and now > self._last[0]:
            then, before = self._last
            share = 1.0 - math.exp(-(now - then) / _SMOOTHING)
            self._velocities = self._velocities + share * ((positions - before) / (now - then) - self._velocities)
        self._last, self._width = (now, positions), width
        values = {f"temperature of {name} [degC]": value for name, value in self._temperatures.items()}
        return Reading(positions, self._velocities, width, values=values, faults=faults)

    def hold(self) -> None:
        """Stand where it is, with torque; an arm that is where it was sent stays sent there. Raises DriverError."""
        robot, motors = self._connected()
        near = self._sent is not None and self._last is not None and np.abs(self._sent[0] - self._last[1]).max() < _KEPT
        with lerobot_errors(self.description):
            if near and self._sent is not None:
                robot.send_action(self._map.theirs(*self._sent))
            elif motors is not None:
                motors.stand(robot)
            else:
                robot.send_action({name: robot.get_observation()[name] for name in self._map.features})
        if not near:
            self._sent = None
        self._let_go, self._off = False, set()

    def write(self, positions: Joints, width: float) -> None:
        """Go to `positions` (n,) [rad] and an opening [m]; raises DriverError."""
        robot, _ = self._connected()
        if not (np.isfinite(positions).all() and math.isfinite(width)):
            raise DriverError(f"{self.description}: expected finite targets, found {positions.tolist()} and {width}")
        with lerobot_errors(self.description):
            robot.send_action(self._map.theirs(positions, width))
        self._sent = (positions.copy(), width)

    def release(self) -> None:
        """Switch the torque off.

        Raises:
            DriverError: a motor does not answer, or LeRobot has no way to do that with this robot.
        """
        _, motors = self._connected()
        if motors is None:
            raise DriverError(f"{self.description}: LeRobot cannot switch its torque off; use the robot's own switch")
        self._sent, self._let_go = None, True
        with lerobot_errors(self.description):
            motors.switch_off()

    def close(self) -> None:
        """End the connection; motors stay as they are."""
        robot, motors = self._robot, self._motors
        self._robot = self._motors = None
        try:
            with lerobot_errors(self.description):
                if motors is not None:
                    motors.disconnect()
                elif robot is not None:
                    robot.disconnect()
        except DriverError as error:
            _log.info("%s", error)  # it is gone

    def _make(self) -> Any:
        settings = self._settings
        options = dict(settings.options)
        made = robot_config(settings.type, options | self._place(), self._source)
        if getattr(made, "cameras", {}):
            raise ConfigError(f"{self._source}: 'options': expected no cameras, which have drivers of their own")
        with lerobot_errors(self.description):
            robot = make_robot(made)
        if has_motors(robot) and not robot.calibration:
            file = only_calibration("settings.calibration", (f"robots/{robot.name}",))
            place = {"id": file.stem, "calibration_dir": str(file.parent)}
            with lerobot_errors(self.description):
                robot = make_robot(robot_config(settings.type, options | self._place() | place, self._source))
        return robot

    def _place(self) -> dict[str, Any]:
        """Fields that say where the robot is and which one."""
        settings = self._settings
        found: dict[str, Any] = {}
        if any(field.name == "port" for field in fields(config_class(settings.type, self._source))):
            self._port = settings.port or only_port("settings.port")
            found["port"] = self._port
        if settings.calibration:
            file = Path(settings.calibration).expanduser()
            if not file.is_file():
                raise CalibrationError(f"{file}: expected a calibration, found no file; lerobot-calibrate makes one")
            found |= {"id": file.stem, "calibration_dir": str(file.parent)}
        return found

    def _connect_motors(self, robot: Any, motors: Motors) -> None:
        motors.connect()
        try:
            motors.calibrate(robot)
        except BaseException:
            motors.disconnect()
            raise
        self._motors = motors

    def _connected(self) -> tuple[Any, Motors | None]:
        if self._robot is None:
            raise DriverError(f"{self.description}: not connected")
        return self._robot, self._motors

    def _ask(self, motors: Motors, now: float) -> tuple[str, ...]:
        """Every now and then ask for torque and heat; what is wrong by the last two answers, as one may be garbled."""
        hottest = self._settings.hottest
        if now - self._asked_at >= self._settings.values_every:
            before, off = self._hot, self._off
            self._temperatures, self._asked_at = motors.temperatures(), now
            self._off = set() if self._let_go else set(motors.without_torque())
            self._hot = {name for name, value in self._temperatures.items() if value >= hottest}
            self._faults = tuple(
                [
                    f"{self.description}: {name} has {self._temperatures[name]:g} degC, expected below {hottest:g}; "
                    "let it cool down"
                    for name in sorted(before & self._hot)
                ]
                + [
                    f"{self.description}: {name} has lost its torque: was it too hot, or overloaded?"
                    for name in sorted(off & self._off)
                ]
            )
        return self._faults


def make(robot: RobotModel, settings: Mapping[str, Any], source: str) -> LeRobotDevice:
    """A robot of LeRobot that is `robot`; `source` names the file of the `settings`.

    Raises:
        ConfigError: the settings are wrong.
    """
    return LeRobotDevice(robot, build(LeRobotSettings, dict(settings), source), source)
