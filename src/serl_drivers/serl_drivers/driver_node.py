# SPDX-License-Identifier: Apache-2.0
"""Node `driver`: an arm without ros2_control behind the topics that the MuJoCo bridge and ros2_control have.

A thread of its own asks and tells the arm at the driver's rate; the node's callbacks only leave there what was
commanded, so that no message delays the arm.
"""

from __future__ import annotations

import threading
import time
from array import array
from typing import Any, Protocol, get_args, runtime_checkable

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus, KeyValue
from geometry_msgs.msg import PoseStamped
from rclpy.clock import Clock, ClockType
from rclpy.context import Context
from rclpy.node import Node
from sensor_msgs.msg import JointState
from serl_config.text import printable
from serl_planning.inverse_kinematics import InverseKinematics
from serl_robots.model.joint_trajectory import JointTrajectoryPlan, TrajectoryError
from serl_robots.model.kinematics import Kinematics
from serl_robots.model.link_clearance import LinkClearance
from serl_robots.model.robot import load_robot
from serl_robots.task_parameters_node import declare_task_and_scene
from serl_ros.diagnostics import ERROR, OK, WARN, Diagnostics
from serl_ros.execution.executor import FastExecutor
from serl_ros.frames import declare_frame_prefix
from serl_ros.node import run_node
from serl_ros.parameters import declare
from serl_ros.qos import LATCHED, LOOP_1, RELIABLE_1, RELIABLE_10
from serl_tasks.messages import MessageError, pose_from_message
from std_msgs.msg import Float64MultiArray
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from serl_drivers.commands_node import CommandTopics
from serl_drivers.config import check_driver, driver_names, load_driver
from serl_drivers.device import Reading
from serl_drivers.device_kinds import make_device
from serl_drivers.driver import Driver, DriverSettings, State
from serl_drivers.gripper import ArmWithGripper, make_gripper
from serl_drivers.ros2_control.settings import LowLevel
from serl_ros import log as logs

_GRIPPER_TOPIC = "gripper_controller/commands"
_TRAJECTORY_TOPIC = "joint_trajectory_controller/joint_trajectory"
_LEVELS = {State.HOLDING: OK, State.ACTIVE: OK, State.LIMP: WARN, State.UNCONFIGURED: WARN, State.FAULT: ERROR}
_ONE_COMMANDER = "from one node at most"
_STATUS_PERIOD = 1.0  # [s]
_JOIN_PATIENCE = 1.0  # [s] that the end waits for the arm


@runtime_checkable
class RosDevice(Protocol):
    """A device that itself talks ROS, by a node that is served beside the driver's."""

    def open_node(self, context: Context, namespace: str, base_frame: str) -> Node:
        """Make that node; it is destroyed with the driver's.

        Args:
            context: of the driver's node.
            namespace: of the driver's node.
            base_frame: full name of the frame of tool poses.
        """


class DriverNode(Node):
    """See the module and `serl_drivers.driver.Driver`."""

    def __init__(self, **node_arguments: Any) -> None:
        """Declare parameters; the arm is connected to by `run`.

        Raises:
            ValueError: a parameter or a file cannot be used.
        """
        super().__init__("driver", **node_arguments)
        task = declare_task_and_scene(self)
        name = declare(self, "driver", "mock", "Driver: a file in config/drivers.", choices=driver_names())
        config = load_driver(name)
        check_driver(config, task, self.get_namespace())
        if config.missing:
            raise ValueError(config.missing)
        port = declare(self, "port", "", "Port or address of the arm; empty: that of the driver's file.")
        calibration = declare(self, "calibration", "", "Calibration of the arm; empty: that of the driver's file.")
        low_level = declare(
            self, "low_level", "", "Of ros2_control: what its controller takes; empty: what the driver's file says.",
            choices=["", *get_args(LowLevel)],
        )  # fmt: skip
        options = (("port", port), ("calibration", calibration), ("low_level", low_level))
        given = {key: value for key, value in options if value}
        robot = load_robot(task.robot)
        self._robot, self._limp_at_end = robot, config.limp_at_end
        device = make_device(config.device, robot, {**config.settings, **given}, f"driver {name!r}: settings")
        talks_ros = device if isinstance(device, RosDevice) else None
        if config.gripper:
            device = ArmWithGripper(device, make_gripper(config.gripper, robot, f"driver {name!r}: gripper"))
        self._description = device.description
        kinematics = Kinematics(robot)
        settings = DriverSettings(
            period=1.0 / config.rate, control_period=task.control_period, gripper_speed=config.gripper_speed
        )
        inverse = InverseKinematics(robot, kinematics, settings.period)
        limits = task.limits
        links = LinkClearance(robot, limits.keep_out, limits.keep_out_link_distance) if limits.keep_out else None
        self._driver = Driver(device, robot, kinematics, inverse, settings, self._on_change, links)
        self._limits = np.column_stack([kinematics.lower, kinematics.upper])
        self._base_frame = declare_frame_prefix(self) + robot.base_frame
        self._device_node = (
            talks_ros.open_node(self.context, self.get_namespace(), self._base_frame) if talks_ros else None
        )
        self._reading: Reading | None = None
        self._late = 0  # turns of the loop that began more than half a period late

        self._state = JointState(name=list(robot.joints))
        self._states = (
            self.create_publisher(JointState, "joint_states", RELIABLE_10) if config.publish_joint_states else None
        )
        self._statuses = self.create_publisher(DiagnosticStatus, "driver/status", LATCHED)
        self._diagnostics = Diagnostics(self, robot.name)
        self._diagnostics.set("commands", OK, _ONE_COMMANDER)
        self._commands = CommandTopics(self, self._on_dispute)
        self._commands.listen(PoseStamped, "target_pose", self._on_pose, LOOP_1, MessageError)
        self._commands.listen(Float64MultiArray, _GRIPPER_TOPIC, self._on_gripper, LOOP_1, ValueError)
        self._commands.listen(JointTrajectory, _TRAJECTORY_TOPIC, self._on_trajectory, RELIABLE_1, TrajectoryError)
        self._services_kept = [
            self.create_service(
                Trigger, f"driver/{what}", lambda _, response, what=what: self._on_request(what, response)
            )
            for what in ("connect", "hold", "release", "activate")
        ]
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = self.create_timer(_STATUS_PERIOD, self._diagnose, clock=steady)
        self._on_change(f"{self._description}: {self._driver.reason}")

    def run(self, executor: FastExecutor, stop: threading.Event) -> None:
        """Spin, with the arm's loop in a thread of its own.

        Raises:
            RuntimeError: that thread has ended, and nobody moves the arm any more.
        """
        loop = threading.Thread(target=self._loop, args=(stop,), name="arm", daemon=True)
        if self._device_node is not None:
            executor.add_node(self._device_node)
        loop.start()
        while not stop.is_set() and loop.is_alive():
            executor.spin_once(timeout_sec=0.1)
        deadline = time.monotonic() + _JOIN_PATIENCE
        while loop.is_alive() and time.monotonic() < deadline:
            executor.spin_once(timeout_sec=0.05)  # the arm may have something to give back
        if not stop.is_set():
            raise RuntimeError("the thread of the arm has ended by an error of its own, which is told above")

    def destroy_node(self) -> None:
        """Take back what the driver and its device have offered."""
        if self._device_node is not None:
            self._device_node.destroy_node()
        super().destroy_node()

    def _loop(self, stop: threading.Event) -> None:
        period, due = self._driver.settings.period, time.monotonic()
        try:
            while not stop.is_set():
                now = time.monotonic()
                if now - due > 0.5 * period:
                    self._late += 1
                    due = now
                reading = self._driver.tick(now)
                if reading is not None:
                    self._publish(reading)
                due += period
                stop.wait(max(0.0, due - time.monotonic()))
        finally:
            self._driver.close(limp=self._limp_at_end)

    def _publish(self, reading: Reading) -> None:
        self._reading = reading
        if self._states is None:
            return
        gripper, state = self._robot.gripper, self._state
        state.header.stamp = self.get_clock().now().to_msg()
        fingers = [gripper.position(reading.width)] * len(gripper.joints)
        still = [0.0] * len(fingers)
        state.position = array("d", [*reading.positions.tolist(), *fingers])
        state.velocity = array("d", [*reading.velocities.tolist(), *still])
        state.effort = array("d", [] if reading.efforts is None else [*reading.efforts.tolist(), *still])
        self._states.publish(state)

    # Commands

    def _on_pose(self, message: PoseStamped) -> None:
        if message.header.frame_id not in ("", self._base_frame):
            raise MessageError(f"expected the frame {self._base_frame}, found {message.header.frame_id!r}")
        self._driver.follow_pose(pose_from_message(message.pose), time.monotonic())

    def _on_gripper(self, message: Float64MultiArray) -> None:
        if len(message.data) != 1:
            raise ValueError(f"expected one width [m], found {len(message.data)} values")
        self._driver.open_to(message.data[0], time.monotonic())

    def _on_trajectory(self, message: JointTrajectory) -> None:
        middle = self._limits.mean(axis=1)  # replaced by where the joints are commanded when it begins
        plan = JointTrajectoryPlan.from_message(message, self._robot.arm_joints, middle, self._limits)
        self._driver.follow_joints(plan, time.monotonic())

    def _on_request(self, what: str, response: Trigger.Response) -> Trigger.Response:
        try:
            self._driver.ask(what)
        except ValueError as error:
            response.success, response.message = False, printable(f"{what}: {error}")
        else:
            response.success, response.message = True, f"{what}: asked for; driver/status says what comes of it"
        return response

    def _on_dispute(self, why: str) -> None:
        self._driver.dispute(why)
        self._diagnostics.set("commands", ERROR if why else OK, why or _ONE_COMMANDER)

    # What people see

    def _on_change(self, text: str) -> None:
        """Tell of another state; from any thread."""
        state, disputed = self._driver.state, self._driver.is_disputed
        wrong = state is State.FAULT or disputed
        level = logs.ERROR if wrong else logs.WARN if state is State.UNCONFIGURED else logs.INFO
        logs.log(self, level, text, throttle=5.0, key=text)
        status = DiagnosticStatus(
            level=ERROR if disputed else _LEVELS[state],
            name="driver",
            hardware_id=self._description,
            message=printable(text),
        )
        status.values = [KeyValue(key="state", value=state.value)]
        self._statuses.publish(status)

    def _diagnose(self) -> None:
        driver, reading = self._driver, self._reading
        values: dict[str, Any] = {} if reading is None else {key: f"{each:g}" for key, each in reading.values.items()}
        self._diagnostics.set(
            "arm",
            ERROR if driver.is_disputed else _LEVELS[driver.state],
            f"{driver.state.value}: {driver.reason}",
            late_targets=self._late,
            unanswered=driver.failures,
            kept_out=driver.kept_out,
            **values,
        )


def main() -> None:
    """Entry point."""
    run_node(DriverNode)
