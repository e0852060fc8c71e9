# SPDX-License-Identifier: Apache-2.0
"""Node `arm_controller`: the only one that commands the arm. Turns messages into calls of `ArmController` and back."""

import time
from array import array
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseStamped
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from sensor_msgs.msg import JointState
from serl_ros.arrays import from_array
from serl_ros.diagnostics import ERROR, OK, WARN, Diagnostics
from serl_ros.frames import declare_frame_prefix
from serl_ros.node import run_node
from serl_ros.parameters import declare
from serl_ros.qos import LATCHED, LOOP_1, LOOP_10, RELIABLE_1, RELIABLE_10
from std_msgs.msg import Float64MultiArray
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from serl_interfaces.msg import ActionCommand, ArmState, EpisodeStatus, ExecutedAction, SafetyStatus
from serl_robots import resources
from serl_robots.arbitration import ActionInput
from serl_robots.arm_controller import ArmController
from serl_robots.arm_task import FOLDER, ArmTask, load_arm_task
from serl_robots.config import ConfigError, build, fields
from serl_robots.control_step import Command, Measured
from serl_robots.joint_states import JointStateError, JointStateReader
from serl_robots.kinematics import Kinematics
from serl_robots.limits import LIMIT_NAMES, SafetyLimits
from serl_robots.move_to_server_node import MoveToServer
from serl_robots.pose import Pose
from serl_robots.robot import load_robot

_TIMER_PERIOD = 0.05  # [s]
_STATUS_PERIOD = 1.0  # [s]


class ArmControllerNode(Node):
    """See the module and docs/architecture.md."""

    def __init__(self, **node_arguments: Any) -> None:
        """Declare parameters and connect.

        Raises:
            ValueError: a parameter or a file cannot be used.
        """
        super().__init__("arm_controller", **node_arguments)
        task = self._task_with_limits()
        robot = load_robot(task.robot)
        if task.limits.max_gripper_width > robot.gripper_max_width:
            raise ConfigError(
                f"task {task.name!r}: limits.max_gripper_width: expected at most the {robot.gripper_max_width} m that "
                f"{robot.name!r} opens, found {task.limits.max_gripper_width}"
            )
        self._robot = robot
        self._base_frame = declare_frame_prefix(self) + robot.base_frame
        self._kinematics = Kinematics(robot)
        self._reader = JointStateReader(robot)
        self._lockstep = declare(self, "lockstep", False, "The world moves one control period for each command.")
        self._commanded: Command | None = None
        self._controller = ArmController(
            task,
            robot,
            self._kinematics,
            lockstep=self._lockstep,
            human_timeout=declare(
                self, "human_timeout", 1.0, "Longest wait for a synchronous person in lockstep [s].", range=(0.0, 60.0)
            ),
        )
        self._refused_states = ""
        self._shown = (self._controller.safety.mode, False, "")
        self._shown_counts = 0
        self._status_due_at = 0.0
        self._make_messages(task)

        self._state_publisher = self.create_publisher(ArmState, "arm/state", RELIABLE_1)
        self._executed_publisher = self.create_publisher(ExecutedAction, "arm/executed", RELIABLE_10)
        self._safety_publisher = self.create_publisher(SafetyStatus, "arm/safety", LATCHED)
        self._pose_publisher = self.create_publisher(PoseStamped, "target_pose", RELIABLE_1)
        self._gripper_publisher = self.create_publisher(Float64MultiArray, "gripper_controller/commands", RELIABLE_1)
        self._joints_publisher = self.create_publisher(
            JointTrajectory, "joint_trajectory_controller/joint_trajectory", RELIABLE_1
        )
        self._diagnostics = Diagnostics(self, robot.name)
        self._move_to = MoveToServer(self, robot, self._base_frame, self._controller, self._publish)
        self._kept = [
            self.create_subscription(EpisodeStatus, "episode", self._on_episode, LATCHED),
            self.create_subscription(JointState, "joint_states", self._on_joint_states, LOOP_10),
            self.create_subscription(ActionCommand, "policy/action", self._on_policy, LOOP_1),
            self.create_subscription(ActionCommand, "teleop/action", self._on_teleop, LOOP_1),
            self.create_service(SetBool, "arm/estop", self._on_estop),
            self.create_service(Trigger, "arm/reset_estop", self._on_reset_estop),
            # local time: a world that stands still must not silence the watchdogs
            self.create_timer(_TIMER_PERIOD, self._on_timer, clock=Clock(clock_type=ClockType.STEADY_TIME)),
        ]
        self._publish_safety()

    def destroy_node(self) -> None:
        """Take everything back that it offered."""
        self._move_to.destroy()
        super().destroy_node()

    def _task_with_limits(self) -> ArmTask:
        """The task, with the limits that parameters `limits.<field>` override."""
        names = [*resources.listing(FOLDER, ".yaml")]
        name = declare(self, "task", "pick_cube", "Task: a file in config/tasks.", choices=names)
        task = load_arm_task(name)
        values = {}
        for field in fields(SafetyLimits):
            value = getattr(task.limits, field.name)
            default = list(value) if isinstance(value, tuple) else value
            values[field.name] = declare(
                self, f"limits.{field.name}", default, f"{field.description}; default: the task's.", range=field.range
            )
            if not isinstance(default, float):
                values[field.name] = [*values[field.name]]
        limits = build(SafetyLimits, values, f"parameters limits.* of node '{self.get_name()}'")
        return ArmTask(
            name=task.name,
            robot=task.robot,
            control_period=task.control_period,
            action=task.action,
            limits=limits,
        )

    def _make_messages(self, task: ArmTask) -> None:
        """Messages of the control step are made once and only refilled."""
        robot = self._robot
        joints = len(robot.arm_joints)
        self._state = ArmState(joint_names=list(robot.arm_joints))
        self._state.header.frame_id = self._base_frame
        self._state.joint_positions = array("d", bytes(8 * joints))
        self._state.joint_velocities = array("d", bytes(8 * joints))
        self._positions = from_array(self._state.joint_positions)
        self._velocities = from_array(self._state.joint_velocities)
        self._pose = PoseStamped()
        self._pose.header.frame_id = self._base_frame
        self._width = Float64MultiArray(data=array("d", [0.0]))
        self._executed = ExecutedAction()
        self._executed.header.frame_id = self._base_frame
        self._point = JointTrajectoryPoint()
        period_ns = round(task.control_period * 1e9)
        self._point.time_from_start.sec, self._point.time_from_start.nanosec = divmod(period_ns, 1_000_000_000)
        self._trajectory = JointTrajectory(joint_names=list(robot.arm_joints), points=[self._point])
        self._status = SafetyStatus(limit_names=list(LIMIT_NAMES))

    # From the graph

    def _on_joint_states(self, message: JointState) -> None:
        try:
            reading = self._reader.read(message)
        except JointStateError as error:
            if str(error) != self._refused_states:
                self.get_logger().error(f"joint_states refused: {error}")
            self._refused_states = str(error)
            return
        self._refused_states = ""
        stamp = message.header.stamp
        tcp, velocity = self._kinematics.tcp_state(reading.positions, reading.velocities)
        measured = Measured(
            stamp.sec * 1_000_000_000 + stamp.nanosec, tcp, reading.positions, reading.gripper_width, time.monotonic()
        )
        # the stamps of what is commanded next are those of the state it starts from
        self._executed.header.stamp = self._pose.header.stamp = self._state.header.stamp = stamp
        command = self._controller.on_state(measured)
        self._publish_state(measured, reading.velocities, velocity)
        self._publish(command)

    def _on_policy(self, message: ActionCommand) -> None:
        command = self._controller.on_policy(_action_input(message), time.monotonic())
        if command is None and self._is_unanswered(message):
            command = self._commanded
        self._publish(command)

    def _is_unanswered(self, message: ActionCommand) -> bool:
        """Whether the actor repeats a step that was commanded while the world in lockstep still stands at its start."""
        last = self._commanded
        return (
            self._lockstep
            and last is not None
            and (last.episode, last.step) == (message.episode, message.step)
            and self._pose.header.stamp == message.header.stamp
        )

    def _on_teleop(self, message: ActionCommand) -> None:
        self._publish(self._controller.on_teleop(_action_input(message), time.monotonic()))

    def _on_episode(self, message: EpisodeStatus) -> None:
        running = message.mode != EpisodeStatus.MODE_IDLE
        self._publish(
            self._controller.on_episode(
                message.episode, running=running, human_expected=message.human_expected, now=time.monotonic()
            )
        )

    def _on_estop(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        if request.data:
            self._publish(self._controller.on_estop())
            response.success, response.message = True, "e-stop is latched"
        else:
            response.success = not self._controller.safety.estop
            response.message = "a latched e-stop is released by arm/reset_estop only"
        return response

    def _on_reset_estop(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        stopped = self._controller.safety.estop
        self._controller.reset_estop()
        self._publish(None)
        response.success = True
        response.message = "e-stop is released" if stopped else "no e-stop was latched"
        return response

    def _on_timer(self) -> None:
        now = time.monotonic()
        self._publish(self._controller.on_timer(now))
        self._move_to.publish_feedback()
        if now >= self._status_due_at:
            self._set_diagnostics(now)
            self._publish_safety()
        elif sum(self._controller.safety.counts.values()) != self._shown_counts:
            self._publish_safety()

    # To the graph

    def _publish(self, command: Command | None) -> None:
        """Publish a command, if there is one, and the safety status, if it changed."""
        if command is not None:
            self._commanded = command
            if command.joint_positions is None:
                # the bridge takes a width and a pose for one command, so the width goes first
                self._width.data[0] = command.gripper_width
                self._gripper_publisher.publish(self._width)
                _fill_pose(self._pose.pose, command.target)
                self._pose_publisher.publish(self._pose)
            else:
                self._point.positions = array("d", command.joint_positions.tobytes())
                self._joints_publisher.publish(self._trajectory)
            # Last: a world in lockstep moves meanwhile.
            if command.executed is not None:
                executed = self._executed
                executed.episode, executed.step = command.episode, command.step
                executed.source = int(command.source)
                executed.action = array("f", command.executed.tobytes())
                executed.limits = list(command.limits)
                self._executed_publisher.publish(executed)
        safety = self._controller.safety
        if (safety.mode, safety.estop, safety.key) != self._shown:
            self._publish_safety()

    def _publish_state(
        self, measured: Measured, velocities: np.ndarray[Any, Any], tcp_velocity: np.ndarray[Any, Any]
    ) -> None:
        state, controller = self._state, self._controller
        _fill_pose(state.tcp_pose, measured.tcp)
        _fill_pose(state.target_pose, controller.target or measured.tcp)
        linear, angular = state.tcp_velocity.linear, state.tcp_velocity.angular
        linear.x, linear.y, linear.z, angular.x, angular.y, angular.z = tcp_velocity.tolist()
        state.gripper_width = measured.gripper_width
        state.gripper_target = controller.gripper_target
        self._positions[:] = measured.joints
        self._velocities[:] = velocities
        state.mode = int(controller.safety.mode)
        self._state_publisher.publish(state)

    def _publish_safety(self) -> None:
        safety, status = self._controller.safety, self._status
        changed = safety.key != self._shown[2]
        self._shown = (safety.mode, safety.estop, safety.key)
        self._shown_counts = sum(safety.counts.values())
        self._status_due_at = time.monotonic() + _STATUS_PERIOD
        status.header.stamp = self.get_clock().now().to_msg()
        status.mode = int(safety.mode)
        status.estop = safety.estop
        status.reason = safety.reason
        status.active_limits = list(safety.active)
        status.limit_counts = array("Q", safety.counts.values())
        self._safety_publisher.publish(status)
        if changed and safety.reason:
            # a pause between episodes is nothing to worry about
            log = self.get_logger().info if safety.key == "stale_command" else self.get_logger().warning
            log(safety.reason)

    def _set_diagnostics(self, now: float) -> None:
        safety, measured = self._controller.safety, self._controller.measured
        level = ERROR if safety.estop else WARN if safety.reason else OK
        self._diagnostics.set(
            "safety", level, safety.reason or safety.mode.name.lower(), dropped_commands=self._controller.dropped
        )
        if measured is None:
            self._diagnostics.set("joint_states", WARN, self._refused_states or "none yet")
        else:
            age = now - measured.received_at
            self._diagnostics.set("joint_states", OK, "received", age_s=f"{age:.2f}")


def _action_input(message: ActionCommand) -> ActionInput:
    stamp = message.header.stamp
    return ActionInput(
        message.episode,
        message.step,
        tuple(message.action),
        stamp.sec * 1_000_000_000 + stamp.nanosec,
        message.active,
        message.synchronous,
    )


def _fill_pose(message: Any, pose: Pose) -> None:
    position, orientation = message.position, message.orientation
    position.x, position.y, position.z = pose.position.tolist()
    orientation.x, orientation.y, orientation.z, orientation.w = pose.quaternion.tolist()


def main() -> None:
    """Entry point."""
    run_node(ArmControllerNode)
