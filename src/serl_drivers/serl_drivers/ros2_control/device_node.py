# SPDX-License-Identifier: Apache-2.0
"""An arm behind ros2_control: its controller is made active, told targets, watched, and given back at the end."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from rclpy.clock import Clock, ClockType
from rclpy.context import Context
from rclpy.logging import LoggingSeverity
from rclpy.node import Node
from rclpy.subscription import Subscription
from sensor_msgs.msg import JointState
from serl_config.schema import build
from serl_robots.model.joint_states import JointReading, JointStateError, JointStateReader
from serl_robots.model.kinematics import Kinematics
from serl_robots.model.robot import RobotModel
from serl_ros.diagnostics import ERROR, OK, WARN, Diagnostics
from serl_ros.incoming import subscribe
from serl_ros.qos import LOOP_1

from serl_drivers.device import DriverError, Joints, Reading
from serl_drivers.ros2_control.controller_manager_node import ControllerManager
from serl_drivers.ros2_control.controllers import (
    ACTIVE,
    Controller,
    ControllerError,
    Switch,
    named,
    order_of,
    switch_back,
    switch_to,
)
from serl_drivers.ros2_control.gripper_node import ActionGripper
from serl_drivers.ros2_control.other_commanders_node import OtherCommanders
from serl_drivers.ros2_control.outputs_node import ForwardPositionOutput, JointTrajectoryOutput, Output, PoseOutput
from serl_drivers.ros2_control.settings import Ros2ControlSettings
from serl_ros import log as logs

_STALE: Final = 0.15  # [s] after which joint states are none any more
_PATIENCE: Final = 2.5  # [s] that each thing has to appear; three of them within the 10 s of `connect`
_GIVE_BACK: Final = 0.7  # [s] that giving back has, at the end
_WATCH: Final = 0.5  # [s] between two looks at the controllers
_INACTIVE_LOOKS: Final = 2  # after which it is believed: an answer may be older than a switch
_NEAR: Final = 0.1  # [rad] within which a last target is where the arm is held
_NEAR_TOOL: Final = 0.05  # [m], the same of the tool, which has the joints' angle as well
_RECENT: Final = 1.0  # [s] for which it is


class _ClientNode(Node):
    """A node that takes back what it cannot find among its own entities."""

    def __init__(self, context: Context, namespace: str) -> None:
        super().__init__("ros2_control_client", context=context, namespace=namespace, use_global_arguments=False)
        self.gripper: ActionGripper | None = None

    def destroy_node(self) -> None:
        if self.gripper is not None:
            self.gripper.destroy()
        super().destroy_node()


class Ros2ControlDevice:
    """See `serl_drivers.device.ArmDevice`. Its node is `open_node`'s, and another thread spins that."""

    def __init__(self, robot: RobotModel, settings: Ros2ControlSettings) -> None:
        """Nothing is asked or published before `open_node` and `connect`."""
        self._robot, self._settings = robot, settings
        self._kinematics = Kinematics(robot)  # of the thread of the arm
        self._reader = JointStateReader(robot, Kinematics(robot))
        self._lock = threading.Lock()
        self._newest: tuple[float, JointReading] | None = None
        self._unreadable = ""
        self._lost = ""
        self._inactive = 0
        self._node: Node | None = None
        self._output: Output | None = None
        self._outputs: dict[tuple[str, ...], Output] = {}  # by the order of joints, each made once
        self._others = ""  # who else commands the arm
        self._tried = Switch()  # asked for since something was given back, though the answer may have been too late
        self._made = Switch()
        self._last: tuple[float, Joints, float] | None = None

    @property
    def description(self) -> str:
        """What it is, and by which controller."""
        return f"ros2_control of {self._robot.name} by {self._settings.controller}"

    def open_node(self, context: Context, namespace: str, base_frame: str) -> Node:
        """Make the node that talks to ros2_control.

        Its names are those of the settings: what the driver's own topics are renamed to does not rename these.

        Args:
            context: of ROS.
            namespace: to which names are relative.
            base_frame: full name of the frame of tool poses.
        """
        settings = self._settings
        node = _ClientNode(context, namespace)
        self._node, self._base_frame = node, base_frame
        self._diagnostics = Diagnostics(node, self._robot.name)
        self._states: Subscription = subscribe(
            node, JointState, settings.joint_states, self._on_states, LOOP_1, JointStateError
        )
        self._manager = ControllerManager(node, settings.controller_manager) if settings.controller_manager else None
        self._gripper = (
            ActionGripper(
                node, settings.gripper_action, self._robot.gripper, self._on_gripper,
                effort=settings.gripper_effort, tolerance=settings.gripper_tolerance,
            )
            if settings.gripper_action
            else None
        )  # fmt: skip
        node.gripper = self._gripper
        self._commanders = OtherCommanders(node)
        if settings.low_level == "joint_trajectory":  # our trajectories are sent on its topic
            action = f"{settings.joint_trajectory_controller}/follow_joint_trajectory"
            self._commanders.watch_action(node.resolve_service_name(action))
        if self._gripper is not None:
            self._commanders.watch_action(self._gripper.name, self._gripper.is_own)
        self._timer = node.create_timer(_WATCH, self._watch, clock=Clock(clock_type=ClockType.STEADY_TIME))
        return node

    # In the thread of the arm

    def connect(self) -> None:
        """Find joint states, controllers and gripper, and make the arm's controller the active one.

        Raises:
            DriverError: what is missing, by name, and what to do.
        """
        node = self._node
        if node is None:
            raise DriverError(f"{self.description}: open_node has not been called")
        self._lost, self._inactive = "", 0
        names, switch = self._robot.arm_joints, Switch()
        if self._manager is not None:
            try:
                names, switch = self._look_up(self._manager)
            except ControllerError as error:
                raise DriverError(f"{self._manager.name}: {error}") from error
        deadline = time.monotonic() + _PATIENCE
        while not self._is_fresh():
            if time.monotonic() > deadline:
                raise self._no_states()
            time.sleep(0.01)
        if self._gripper is not None:
            self._gripper.find(_PATIENCE)
        if self._manager is not None:  # last: as long as something is missing nobody's controller is switched off
            self._take(self._manager, switch)
        if names not in self._outputs:
            self._outputs[names] = self._make_output(node, names)
        self._output = self._outputs[names]
        self._commanders.forget()
        self._others, self._last = "", None

    def limp(self) -> str:
        """The controller that is active now holds the arm."""
        return ""

    def read(self) -> Reading:
        """The newest joint states."""
        with self._lock:
            newest, lost = self._newest, self._lost
        if newest is None or time.monotonic() - newest[0] > _STALE:
            raise self._no_states()
        reading = newest[1]
        efforts = None if reading.efforts is None else np.array(reading.efforts)
        faults = [each for each in (lost, self._others) if each]
        if self._gripper is not None and not self._gripper.is_offered:
            faults.append(f"gripper action {self._gripper.name} is not offered any more")
        return Reading(reading.positions, reading.velocities, reading.gripper_width, efforts, faults=tuple(faults))

    def hold(self) -> None:
        """Stay at the last target where the arm is there, else where it is measured.

        Without a target since the connection nothing is sent: the controller holds by itself since it was activated.
        """
        if self._gripper is not None:
            self._gripper.stop_wanting()
        with self._lock:
            newest, last = self._newest, self._last
            self._last = None
        if newest is None or last is None or self._output is None:
            return
        positions, width = newest[1].positions, newest[1].gripper_width
        if time.monotonic() - last[0] < _RECENT and self._is_near(last[1], positions):
            _, positions, width = last
        self._output.send(positions, width)

    def write(self, positions: Joints, width: float) -> None:
        """See `ArmDevice`; float64 (n,) [rad] and an opening [m]."""
        if self._output is None:
            raise DriverError(f"{self.description}: not connected")
        self._output.send(positions, width)
        self._last = (time.monotonic(), positions, width)
        if self._gripper is not None:
            self._gripper.move_to(width)

    def release(self) -> None:
        """Raises DriverError: controllers have no switch for the torque, the hardware has."""
        raise DriverError(
            "controllers of ros2_control do not switch the torque off; deactivate the hardware: "
            "`ros2 control set_hardware_component_state NAME inactive`"
        )

    def close(self) -> None:
        """Give back what was active before."""
        made, self._made, self._output = self._made, Switch(), None
        if not made or self._manager is None:
            return
        try:
            back = switch_back(made, self._manager.controllers(_GIVE_BACK))
            if back:
                self._manager.switch(back, _GIVE_BACK)
                self._log(logs.INFO, f"{self._manager.name}: given back: `{back.command}`")
        except DriverError as error:
            self._log(logs.WARN, f"the controllers are not as they were before: {error}")

    def _look_up(self, manager: ControllerManager) -> tuple[tuple[str, ...], Switch]:
        """Joints of the arm's controller in its order, and what makes it active.

        Raises ControllerError, DriverError.
        """
        settings = self._settings
        controllers = manager.controllers(_PATIENCE)
        wanted = named(settings.controller, controllers)
        names = self._robot.arm_joints
        if settings.low_level != "cartesian":
            names = order_of(wanted, names, self._robot.gripper.joints[0])
        switch = switch_to(settings.controller, controllers)
        if switch and not settings.switch:
            raise ControllerError(f"controller {wanted.name!r} is {wanted.state}: switch it, `{switch.command}`")
        return names, switch

    def _take(self, manager: ControllerManager, switch: Switch) -> None:
        """Make the arm's controller the active one. Raises DriverError."""
        if switch:
            self._tried = switch
            manager.switch(switch, _PATIENCE)
            self._log(logs.INFO, f"{manager.name}: switched: `{switch.command}`")
        self._made, self._tried = self._tried, Switch()

    def _make_output(self, node: Node, names: tuple[str, ...]) -> Output:
        settings = self._settings
        if settings.low_level == "joint_trajectory":
            return JointTrajectoryOutput(node, settings, names, self._robot)
        if settings.low_level == "forward_position":
            return ForwardPositionOutput(node, settings, names, self._robot)
        return PoseOutput(node, settings, self._base_frame, self._kinematics)

    def _is_near(self, target: Joints, positions: Joints) -> bool:
        """Whether the arm is where it was told to be: its joints, or its tool where that alone is told."""
        if self._settings.low_level != "cartesian":
            return bool(np.abs(target - positions).max() < _NEAR)
        wanted, found = self._kinematics.tcp(target), self._kinematics.tcp(positions)
        return float(np.linalg.norm(wanted.position - found.position)) < _NEAR_TOOL and wanted.angle(found) < _NEAR

    def _no_states(self) -> DriverError:
        topic = self._states.topic_name
        if self._unreadable:
            return DriverError(f"{topic}: {self._unreadable}")
        return DriverError(
            f"nothing on {topic} for more than {_STALE:g} s: is joint_state_broadcaster active? "
            "(ros2 control list_controllers)"
        )

    def _is_fresh(self) -> bool:
        with self._lock:
            return self._newest is not None and time.monotonic() - self._newest[0] < _STALE

    # In the thread that spins

    def _on_states(self, message: JointState) -> None:
        try:
            reading = self._reader.read(message)
        except JointStateError as error:
            self._unreadable = str(error)
            raise
        with self._lock:
            self._newest, self._unreadable = (time.monotonic(), reading), ""

    def _on_gripper(self, is_wrong: bool, text: str) -> None:
        self._diagnostics.set("gripper", WARN if is_wrong else OK, text)
        self._log(logs.WARN if is_wrong else logs.INFO, text)

    def _watch(self) -> None:
        output = self._output
        self._others = "" if output is None else self._commanders.say(output.topic)
        self._diagnostics.set("commands", ERROR if self._others else OK, self._others or "from this driver alone")
        controllers = None if self._manager is None or self._output is None else self._manager.look(time.monotonic())
        if controllers is None or self._output is None:
            return
        state = _state_of(self._settings.controller, controllers)
        self._inactive = 0 if state == ACTIVE else self._inactive + 1
        with self._lock:
            text = f"controller {self._settings.controller!r} is {state}, not active"
            self._lost = text if self._inactive >= _INACTIVE_LOOKS else ""
        values = {each.name: each.state for each in controllers}
        self._diagnostics.set("controllers", ERROR if self._lost else OK, self._lost or "as they should be", **values)

    def _log(self, level: LoggingSeverity, text: str) -> None:
        if self._node is not None:
            logs.log(self._node, level, text, throttle=2.0, key=text)


def _state_of(name: str, controllers: tuple[Controller, ...]) -> str:
    return next((each.state for each in controllers if each.name == name), "unloaded")


def make(robot: RobotModel, settings: Mapping[str, Any], source: str) -> Ros2ControlDevice:
    """The ros2_control of `robot`; `source` names the file of the `settings`.

    Raises:
        ConfigError: the settings are wrong.
    """
    return Ros2ControlDevice(robot, build(Ros2ControlSettings, dict(settings), source))
