# SPDX-License-Identifier: Apache-2.0
"""A Franka arm behind the robot server of SERL or HIL-SERL, which a lab keeps on its ROS 1 computer.

Tool poses go to the server's impedance controller, which clips the error between the pose and the arm at 1 kHz. The
server asks nobody who they are, and neither encrypts nor signs: whoever reaches its port commands the arm.
"""

from __future__ import annotations

import ipaddress
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
from serl_config.schema import ConfigError, Field, build, config
from serl_robots.model.kinematics import Kinematics
from serl_robots.model.pose import Pose
from serl_robots.model.robot import RobotModel

from serl_drivers.device import DriverError, Joints, Reading
from serl_drivers.serl_server.gripper import GripperCommand, GripperDialect, Kind, Server
from serl_drivers.serl_server.state import JOINTS, Freshness, ServerState, StateError, read_state
from serl_drivers.serl_server.transport import Transport, TransportError

PORT: Final = 5000
"""Port that Flask has, which the server does not change."""

_PARTS: Final = ("/getpos", "/getq", "/getdq", "/getforce", "/gettorque")
_FURTHEST_TOOL: Final = 0.3  # [m] between the tool centre point and the end effector that the server means
_log = logging.getLogger(__name__)


@config(kw_only=True)
class ServerSettings:
    """Which robot server, and what hangs at its arm."""

    port: str = Field(min_length=1, description="host of the server, as 172.16.0.1 or robotpc:5000")
    server: Server = Field(default="hil_serl", description="whose server it is")
    gripper: Kind = Field(default="robotiq", description="the server's --gripper_type")
    gripper_opening: float = Field(default=0.085, gt=0.0, le=0.3, description="when it is open [m]")
    timeout: float = Field(default=0.15, gt=0.0, le=2.0, description="time that a request has with its answer [s]")
    frozen_after: float = Field(
        default=0.3, gt=0.0, le=10.0, description="time after which a state that stays the same is not measured [s]"
    )
    most_tool_error: float = Field(
        default=0.1, gt=0.0, le=1.0, description="distance of the tool from its pose from which it does not follow [m]"
    )
    follow_within: float = Field(default=1.0, gt=0.0, le=10.0, description="time that it has to come nearer [s]")


class ServerDevice:
    """See `serl_drivers.device.ArmDevice`.

    When commands end, the server's controller keeps its last pose, so the arm holds whatever dies between here and the
    robot computer.
    """

    def __init__(
        self, robot: RobotModel, settings: ServerSettings, source: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Name the server; nothing is sent.

        Args:
            robot: that the server moves.
            settings: of the server.
            source: file of the settings, for people.
            clock: monotonic time [s].

        Raises:
            ConfigError: `settings.port` is no host with a port.
        """
        self._settings, self._clock = settings, clock
        self._host, self._port = _address(settings.port, source)
        self._kinematics = Kinematics(robot)
        self._dialect = GripperDialect(settings.server, settings.gripper, settings.gripper_opening)
        self._transport = Transport(self._host, self._port, settings.timeout)
        self._tcp_to_ee: Pose | None = None
        self._freshness = Freshness(settings.frozen_after)
        self._target: Pose | None = None
        self._near_at = 0.0
        self._told: GripperCommand | None = None

    @property
    def description(self) -> str:
        """What it is and where."""
        return f"robot server of {self._settings.server} at {self._host}:{self._port}"

    def connect(self) -> None:
        """Ask for the state twice, and find out which end effector the server's poses are of.

        The server does not tell the time: only a second state with other digits is a measured one.

        Raises:
            DriverError: no server, an answer that is none, a robot that is off, or another robot.
        """
        self.close()
        _log.warning("%s", self._warning())
        state, begun = self._state(), self._clock()
        self._freshness = Freshness(self._settings.frozen_after)
        self._freshness.age(state, begun)
        while self._freshness.age(newer := self._state(), self._clock()) > 0.0:
            if self._freshness.stale(newer, self._clock()):
                raise self._error(
                    f"the same state for {self._settings.frozen_after:g} s, to the last digit; is the robot on, its "
                    "FCI active and franka_control running?"
                )
            time.sleep(0.01)
        tcp = self._kinematics.tcp(newer.positions)
        offset = tcp.inverse().compose(newer.tool)
        if offset.distance(Pose.identity()) > _FURTHEST_TOOL:
            raise self._error(
                f"expected the tool of its joints, near {np.round(tcp.position, 3).tolist()} m, found "
                f"{np.round(newer.tool.position, 3).tolist()} m; is that another robot, or its end effector set "
                "otherwise in Desk?"
            )
        self._tcp_to_ee = offset
        self._target, self._told = None, None

    def limp(self) -> str:
        """The server cannot switch the torque off."""
        return ""

    def read(self) -> Reading:
        """Where it is.

        Raises:
            DriverError: no answer in time, or none that is a state.
        """
        state, now = self._state(), self._clock()
        width = 0.0 if state.gripper is None else self._dialect.width(state.gripper)
        values = {f"force {axis} [N]": float(each) for axis, each in zip("xyz", state.force, strict=True)}
        values |= {f"torque {axis} [N m]": float(each) for axis, each in zip("xyz", state.torque, strict=True)}
        return Reading(
            positions=state.positions,
            velocities=state.velocities,
            width=width,
            values=values,
            faults=tuple(self._faults(state, now)),
        )

    def hold(self) -> None:
        """Stand where the arm is, after the errors of the robot are cleared; raises DriverError."""
        state = self._state()
        self._post("/clearerr")
        self._command(state.tool)

    def write(self, positions: Joints, width: float) -> None:
        """Send the tool pose of `positions` (7,) [rad], and an opening [m] where it is another than before.

        Raises:
            DriverError: no answer in time, or one of them is no number; then nothing is sent.
        """
        if self._tcp_to_ee is None:
            raise self._error("not connected")
        if not (np.isfinite(positions).all() and np.isfinite(width)):
            raise self._error(f"a target was refused: expected finite numbers, found {positions.tolist()} and {width}")
        within = np.clip(positions, self._kinematics.lower, self._kinematics.upper)
        self._command(self._kinematics.tcp(within).compose(self._tcp_to_ee))
        if self._settings.gripper == "none":
            return
        command = self._dialect.command(width)
        if command != self._told:
            self._post(command.path, command.values)
            self._told = command

    def release(self) -> None:
        """Refuse: without its controller the arm is held by its own, and nobody makes it limp from here.

        Raises:
            DriverError: always.
        """
        raise self._error("the server cannot switch the torque off; press the robot's stop button, then guide it")

    def close(self) -> None:
        """Hang up; the arm stays at its last pose."""
        self._transport.close()
        self._tcp_to_ee = self._target = None

    def _command(self, pose: Pose) -> None:
        self._post("/pose", {"arr": [*pose.position.tolist(), *pose.quaternion.tolist()]})
        if self._target is None:
            self._near_at = self._clock()
        self._target = pose

    def _faults(self, state: ServerState, now: float) -> list[str]:
        """What the server does not say: it answers as ever when the robot has stopped."""
        found, settings = [], self._settings
        if self._freshness.stale(state, now):
            found.append(
                f"the same state for {self._freshness.age(state, now):.2f} s, to the last digit: the server lives, the "
                "robot's state does not come"
            )
        if self._target is None or state.tool.distance(self._target) <= settings.most_tool_error:
            self._near_at = now
        elif now - self._near_at > settings.follow_within:
            found.append(
                f"the tool is {state.tool.distance(self._target):.2f} m from its pose for {settings.follow_within:g} "
                "s: a reflex, the stop button, or something in its way; the server does not say which"
            )
        return found

    def _state(self) -> ServerState:
        try:
            if self._settings.gripper != "none":
                state = read_state(self._transport.post_for_json("/getstate"))
                if state.gripper is None:
                    raise StateError(f"gripper_pos: expected that of a {self._settings.gripper} gripper, found none")
                return state
            # Without a gripper the server fails at /getstate, which asks for one.
            parts: dict[str, Any] = {}
            for path in _PARTS:
                parts |= self._transport.post_for_json(path)
            return read_state(parts)
        except (TransportError, StateError) as error:
            raise self._error(str(error)) from error

    def _post(self, path: str, values: object | None = None) -> None:
        try:
            self._transport.post(path, values)
        except TransportError as error:
            raise self._error(str(error)) from error

    def _warning(self) -> str:
        text = f"{self.description}: it has no authentication: whoever reaches this port commands the arm"
        if _is_loopback(self._host):
            return text + ", everybody on this machine"
        return text + "; keep it on a network of its own, or behind ssh -L 5000:localhost:5000"

    def _error(self, text: str) -> DriverError:
        return DriverError(f"{self.description}: {text}")


def make(robot: RobotModel, settings: Mapping[str, Any], source: str) -> ServerDevice:
    """The arm behind a server, which is `robot`; `source` names the file of the `settings`.

    Raises:
        ConfigError: the settings are wrong, or the robot has another number of joints.
    """
    if len(robot.arm_joints) != JOINTS:
        raise ConfigError(
            f"{source}: 'robot': expected one of {JOINTS} joints, found {robot.name!r} of {len(robot.arm_joints)}"
        )
    return ServerDevice(robot, build(ServerSettings, dict(settings), source), source)


def _address(text: str, source: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon:
        return text, PORT
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ConfigError(f"{source}: 'port': expected a host, or a host and a port as robotpc:5000, found {text!r}")
    return host, int(port)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
