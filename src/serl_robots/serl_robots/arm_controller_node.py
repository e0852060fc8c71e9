# SPDX-License-Identifier: Apache-2.0
"""Node `arm_controller`: the only one that commands the arm. Turns messages into calls of `ArmController` and back.

It must not die and must not be silenced. Every callback is guarded: what it raises stops the arm as an e-stop does, is
named on `arm/safety` and `/diagnostics`, and everything goes on, `arm/estop` and `arm/reset_estop` before all. Nothing
on that way relies on what failed: each part of it is tried by itself, and where not even the controller can tell how to
hold, the last command is given again and nothing else until the reset.
"""

import sys
import time
from array import array
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseStamped
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from sensor_msgs.msg import JointState
from serl_config.text import printable
from serl_ros.arrays import from_array
from serl_ros.diagnostics import ERROR, OK, WARN, Diagnostics
from serl_ros.driver_status import DriverStatus
from serl_ros.execution.faults import describe, report_fault
from serl_ros.frames import declare_frame_prefix
from serl_ros.node import run_node
from serl_ros.parameters import declare
from serl_ros.qos import LATCHED, LOOP_1, LOOP_10, RELIABLE_1, RELIABLE_10
from std_msgs.msg import Float64MultiArray
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from serl_interfaces.msg import ActionCommand, ArmState, EpisodeStatus, ExecutedAction, SafetyStatus
from serl_robots.arm_markers_node import ArmMarkers
from serl_robots.arm_messages_node import action_input, called, fill_pose
from serl_robots.control.arbitration import NOBODY, Sender
from serl_robots.control.arm_controller import ArmController
from serl_robots.control.arm_task import ArmTask
from serl_robots.control.control_step import Command, Measured
from serl_robots.control.move_to import MoveRejected
from serl_robots.control.task_robot import robot_of
from serl_robots.loads_node import LoadListener
from serl_robots.model.joint_states import JointStateError, JointStateReader
from serl_robots.model.kinematics import Kinematics
from serl_robots.move_to_server_node import MoveToServer
from serl_robots.other_arm_node import ArmOfPair
from serl_robots.other_commanders_node import report_other_commanders
from serl_robots.safety.limits import LIMIT_NAMES
from serl_robots.safety.source import Source
from serl_robots.stop_signal import StopSignal
from serl_robots.task_parameters_node import declare_task
from serl_ros import log as logs

_TIMER_PERIOD = 0.02  # [s]
_STATUS_PERIOD = 1.0  # [s]
_REFUSALS_PERIOD = 0.1  # [s] between two messages on arm/safety that tell of nothing but refusals
_REPEAT_AFTER = 5.0  # [s] between two log lines about the same reason


class ArmControllerNode(Node):
    """See the module and docs/architecture.md."""

    def __init__(self, **node_arguments: Any) -> None:
        """Declare parameters and connect.

        Raises:
            ValueError: a parameter or a file cannot be used.
        """
        super().__init__("arm_controller", **node_arguments)
        self._pair = ArmOfPair(self, declare_task(self))
        task = self._pair.task
        robot = robot_of(task)
        self._robot = robot
        self._base_frame = declare_frame_prefix(self) + robot.base_frame
        self._kinematics = Kinematics(robot)
        self._reader = JointStateReader(robot, self._kinematics)
        self._lockstep = declare(self, "lockstep", False, "The world moves one control period for each command.")
        self._human_timeout = declare(
            self, "human_timeout", 1.0, "Longest wait for a synchronous person in lockstep [s].", range=(0.0, 60.0)
        )
        self._task = task
        self._controller = self._make_controller()
        self._commanded: Command | None = None
        self._unsent: Command | None = None  # a hold that could not be published yet
        self._broken = ""  # why the controller can no longer be asked; nothing is commanded but the hold
        self._measured: Measured | None = None
        self._refused_states = ""
        self._shown = (Source.IDLE, False, NOBODY, "")
        self._shown_at = 0.0
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
        self._commanders = self._pose_publisher, self._gripper_publisher, self._joints_publisher
        self._markers = ArmMarkers(self, task.limits, self._base_frame)
        self._diagnostics = Diagnostics(self, robot.name)
        period = task.control_period
        self._move_to = MoveToServer(self, robot, self._base_frame, self._control, self._publish, period)
        self._loads = LoadListener(self, task.limits, lockstep=self._lockstep)  # heard before joint_states
        guarded = self._guarded
        self._episodes = self.create_subscription(
            EpisodeStatus, self._pair.topic("episode"), guarded("topic episode", self._on_episode), LATCHED
        )
        self._driver = DriverStatus(self, on_change=self._on_driver, guarded=guarded)
        self._kept = [
            self._episodes,
            self.create_subscription(
                JointState, "joint_states", guarded("topic joint_states", self._on_joint_states), LOOP_10
            ),
            self.create_subscription(
                ActionCommand, "policy/action", guarded("topic policy/action", self._on_policy), LOOP_1
            ),
            # deep enough that two who send at once do not hide each other
            self.create_subscription(
                ActionCommand, "teleop/action", guarded("topic teleop/action", self._on_teleop), LOOP_10
            ),
            self._driver.subscription,
            self.create_service(SetBool, "arm/estop", self._on_estop),
            self.create_service(Trigger, "arm/reset_estop", self._on_reset_estop),
            # local time: a world that stands still must not silence the watchdogs
            self.create_timer(
                _TIMER_PERIOD, guarded("timer", self._on_timer), clock=Clock(clock_type=ClockType.STEADY_TIME)
            ),
        ]
        self._kept += self._pair.listen(lambda: None if self._broken else self._controller, self._publish, guarded)
        self._entities = {describe(entity) for entity in self._kept}
        self._publish_safety()

    def destroy_node(self) -> None:
        """Take everything back that it offered."""
        self._move_to.destroy()
        super().destroy_node()

    def _make_controller(self) -> ArmController:
        return ArmController(
            self._task,
            self._robot,
            self._kinematics,
            lockstep=self._lockstep,
            human_timeout=self._human_timeout,
            other=self._pair.other(self._kinematics, lockstep=self._lockstep),
        )

    def _control(self) -> ArmController:
        """The controller. Raises MoveRejected where it can no longer be asked."""
        if self._broken:
            raise MoveRejected(f"{self._broken}; call arm/reset_estop first")
        return self._controller

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
        self._acts_on_joints = task.action.joint_block is not None
        self._trajectory = JointTrajectory(joint_names=list(robot.arm_joints), points=[self._point])
        self._status = SafetyStatus(limit_names=list(LIMIT_NAMES))

    # Errors

    def _guarded(self, where: str, callback: Callable[..., None]) -> Callable[[Any], None]:
        """A callback whose errors stop the arm and nothing else."""

        def guard(*arguments: Any) -> None:
            try:
                callback(*arguments)
            except Exception as error:  # noqa: BLE001 - whatever it is, the arm must be held
                self._report(where, error)

        return guard

    def _report(self, where: str, error: Exception) -> None:
        """Stop the arm because of an error, then tell."""
        self._stop_for(where, error)
        self._try(lambda: report_fault(self, where, error))

    def on_callback_error(self, where: str, error: Exception) -> None:
        """Stop the arm because of an error that the executor caught. See `serl_ros.execution.faults.FaultAware`."""
        if where.startswith(("topic ", "service ")) and where not in self._entities:
            return  # rclpy's own, for parameters and the clock: they command nothing
        self._stop_for(where, error)

    def _stop_for(self, where: str, error: Exception) -> None:
        """Hold, latch, say so: each by itself, and whatever state the controller is in."""
        reason = printable(f"internal error ({where}: {type(error).__name__}: {error})")
        command: Command | None = None
        try:
            command = self._controller.on_fault(reason)
        except Exception:  # noqa: BLE001 - then without the controller
            self._broken = reason
            command = self._last_resort()
        if command is not None:
            self._send_hold(command)
        self._try(self._publish_safety)
        self._try(lambda: self._set_diagnostics(time.monotonic()))

    def _last_resort(self) -> Command | None:
        """The last command again, or where the arm was measured: without any computation."""
        if self._commanded is not None:
            return replace(self._commanded, source=Source.ESTOP, executed=None, limits=())
        measured = self._measured
        if measured is None:
            return None
        width = self._task.limits.width_within(measured.gripper_width)
        return Command(measured.stamp_ns, Source.ESTOP, measured.tcp, width)

    def _send_hold(self, command: Command) -> None:
        """Publish a hold; what cannot be published now is tried again with every timer."""
        self._unsent = command
        try:
            self._command_arm(command)
            self._unsent = None
        except Exception as error:  # noqa: BLE001 - there is nobody left to tell but the log
            text = f"the hold could not be published: {error}"
            self._try(lambda: logs.log(self, logs.ERROR, text, throttle=_REPEAT_AFTER))

    def _try(self, action: Callable[[], object]) -> None:
        """Do something that may fail without consequences for the arm."""
        try:
            action()
        except Exception as error:  # noqa: BLE001 - the arm is held; the last thing left is standard error
            with suppress(OSError, ValueError):  # nor is that there, or the disk behind it is full
                print(f"arm_controller: {type(error).__name__}: {error}", file=sys.stderr, flush=True)

    # From the graph

    def _on_joint_states(self, message: JointState) -> None:
        try:
            reading = self._reader.read(message)
        except JointStateError as error:
            self._refused_states = printable(error)
            text = f"joint_states refused: {error}"
            logs.log(self, logs.ERROR, text, throttle=_REPEAT_AFTER, key="joint_states")
            return
        self._refused_states = ""
        stamp = message.header.stamp
        stamp_ns = stamp.sec * 1_000_000_000 + stamp.nanosec
        if stamp_ns == 0 and not self._lockstep:  # the driver does not say when
            stamp = self.get_clock().now().to_msg()
            stamp_ns = stamp.sec * 1_000_000_000 + stamp.nanosec
        tcp, velocity = self._kinematics.tcp_state(reading.positions, reading.velocities)
        now, loads = time.monotonic(), self._loads.loads(reading.efforts)
        measured = Measured(stamp_ns, tcp, reading.positions, reading.gripper_width, now, loads)
        # the stamps of what is commanded next are those of the state it starts from
        self._pose.header.stamp = self._state.header.stamp = stamp
        self._measured = measured
        if self._broken:
            return
        command = self._controller.on_state(measured)
        self._publish_state(measured, reading.velocities, velocity)
        self._publish(command)

    def _on_policy(self, message: ActionCommand) -> None:
        if self._broken:
            return
        if self._episodes.get_publisher_count() > 0:
            self._controller.on_announcer()
        command = self._controller.on_policy(action_input(message), time.monotonic())
        if command is None and self._is_repeated(message):
            if self._pose.header.stamp == message.header.stamp:  # the world still stands at the start of the step
                command = self._commanded
            else:  # only the answer may have been lost
                self._executed_publisher.publish(self._executed)
        self._publish(command)

    def _is_repeated(self, message: ActionCommand) -> bool:
        """Whether the actor, in lockstep, repeats the step that was commanded last, as it does without an answer."""
        last = self._commanded
        return (
            self._lockstep
            and last is not None
            and last.executed is not None
            and (last.episode, last.step) == (message.episode, message.step)
        )

    def _on_teleop(self, message: ActionCommand) -> None:
        if self._broken:
            return
        unheard = self._controller.unheard
        self._publish(self._controller.on_teleop(action_input(message), time.monotonic()))
        if self._controller.unheard > unheard:
            text = f"{called(message.sender)} is not followed: {called(self._controller.leader.name)} leads"
            # without the name, which may be another one in each message
            logs.log(self, logs.WARN, text, throttle=_REPEAT_AFTER, key="unheard")

    def _on_episode(self, message: EpisodeStatus) -> None:
        if self._broken:
            return
        running = message.mode != EpisodeStatus.MODE_IDLE
        self._publish(
            self._controller.on_episode(
                message.episode, running=running, human_expected=message.human_expected, now=time.monotonic()
            )
        )

    def _on_driver(self, problem: str) -> None:
        if not self._broken:
            self._publish(self._controller.on_driver(problem, time.monotonic()))

    def _on_estop(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        if request.data:
            self._stop()
            response.success, response.message = True, "e-stop is latched"
        else:
            response.success = not self._is_stopped
            response.message = "a latched e-stop is released by arm/reset_estop only"
        return response

    def _stop(self) -> None:
        """Latch the e-stop, whatever happens."""
        try:
            if not self._broken:
                self._publish(self._controller.on_estop())
        except Exception as error:  # noqa: BLE001 - then it is stopped as for a fault
            self._report("e-stop", error)

    def _on_reset_estop(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        stopped = self._is_stopped
        try:
            if self._broken:
                # begins anew: a controller that failed while it stopped the arm cannot be trusted with its state
                self._controller = self._make_controller()
                self._move_to.abandon(self._broken)
                self._broken = ""
            self._controller.reset_estop()
            self._unsent = None
            self._publish(None)
        except Exception as error:  # noqa: BLE001 - then it stays stopped
            self._report("arm/reset_estop", error)
        response.success = not self._is_stopped
        if self._is_stopped:
            response.message = f"the arm stays stopped: {self._reason}"
        else:
            response.message = "e-stop is released" if stopped else "no e-stop was latched"
        return response

    def _on_timer(self) -> None:
        if StopSignal.asked:
            StopSignal.asked = False
            logs.log(self, logs.WARN, "stopped by SIGUSR1")
            self._stop()
        now = time.monotonic()
        if self._unsent is not None:
            self._send_hold(self._unsent)
        shown = self._measured, self._commanded, self._what_to_show()[0], self._state.header.stamp
        self._try(lambda: self._markers.show(*shown))
        if not self._broken:
            self._driver.look()
            self._publish(self._controller.on_timer(now))
            self._move_to.look(now)
        if now >= self._status_due_at:
            report_other_commanders(self, self._commanders, self._diagnostics)
            self._set_diagnostics(now)
            self._publish_safety()
        elif now - self._shown_at >= _REFUSALS_PERIOD:
            safety = self._controller.safety
            if sum(safety.counts.values()) != self._shown_counts or self._what_to_show() != self._shown:
                self._publish_safety()

    # To the graph

    def _publish(self, command: Command | None) -> None:
        """Publish a command, if there is one, and the safety status, if it changed."""
        if command is not None:
            self._command_arm(command)
            # Last: a world in lockstep moves meanwhile.
            if command.executed is not None:
                executed = self._executed
                executed.header.stamp = self._pose.header.stamp
                executed.episode, executed.step = command.episode, command.step
                executed.source = int(command.source)
                executed.action = array("f", command.executed.tobytes())
                executed.limits = list(command.limits)
                self._executed_publisher.publish(executed)
        show = self._what_to_show()
        # refusals may come a thousand times a second; who leads and what stops the arm is told at once
        if show[:3] != self._shown[:3] or (
            show != self._shown and time.monotonic() - self._shown_at >= _REFUSALS_PERIOD
        ):
            self._publish_safety()

    def _command_arm(self, command: Command) -> None:
        self._commanded = command
        if command.joint_positions is None or self._acts_on_joints:
            # the bridge takes a width and a target for one command, so the width goes first
            self._width.data[0] = command.gripper_width
            self._gripper_publisher.publish(self._width)
        if command.joint_positions is None:
            fill_pose(self._pose.pose, command.target)
            self._pose_publisher.publish(self._pose)
        else:
            if self._acts_on_joints and self._lockstep:  # the stamp says that a width belongs to it
                self._trajectory.header.stamp = self._pose.header.stamp
            self._point.positions = array("d", command.joint_positions.tobytes())
            self._joints_publisher.publish(self._trajectory)

    def _publish_state(
        self, measured: Measured, velocities: np.ndarray[Any, Any], tcp_velocity: np.ndarray[Any, Any]
    ) -> None:
        state, controller = self._state, self._controller
        fill_pose(state.tcp_pose, measured.tcp)
        fill_pose(state.target_pose, controller.target or measured.tcp)
        linear, angular = state.tcp_velocity.linear, state.tcp_velocity.angular
        linear.x, linear.y, linear.z, angular.x, angular.y, angular.z = tcp_velocity.tolist()
        state.gripper_width = measured.gripper_width
        state.gripper_target = controller.gripper_target
        self._positions[:] = measured.joints
        self._velocities[:] = velocities
        state.mode = int(controller.safety.mode)
        self._state_publisher.publish(state)

    @property
    def _is_stopped(self) -> bool:
        return bool(self._broken) or self._controller.safety.estop

    @property
    def _reason(self) -> str:
        return f"{self._broken}; the arm is stopped" if self._broken else self._controller.safety.reason

    def _what_to_show(self) -> tuple[Source, bool, Sender, str]:
        """Who leads, whether the arm is stopped, which person leads, and why."""
        if self._broken:
            return Source.ESTOP, True, NOBODY, "fault"
        safety = self._controller.safety
        return safety.mode, safety.estop, self._controller.leader, safety.key

    def _publish_safety(self) -> None:
        safety, status = self._controller.safety, self._status
        before, self._shown = self._shown, self._what_to_show()
        mode, stopped, leader, key = self._shown
        self._shown_counts = sum(safety.counts.values())
        self._shown_at = time.monotonic()
        self._status_due_at = self._shown_at + _STATUS_PERIOD
        status.header.stamp = self.get_clock().now().to_msg()
        status.mode = int(mode)
        status.estop = stopped
        status.leader, status.leader_priority = leader
        status.reason = self._reason
        status.active_limits = list(safety.active)
        status.limit_counts = array("Q", safety.counts.values())
        self._safety_publisher.publish(status)
        if leader.name and leader != before[2]:
            text = f"{called(leader.name)} leads the arm"
            logs.log(self, logs.INFO, text, throttle=_REPEAT_AFTER, key="leads")
        if key != before[3] and status.reason:
            # a pause between episodes is nothing to worry about
            level = logs.INFO if key == "stale_command" else logs.WARN
            logs.log(self, level, status.reason, throttle=_REPEAT_AFTER, key=("reason", key))

    def _set_diagnostics(self, now: float) -> None:
        mode, stopped, leader, _ = self._what_to_show()
        reason, measured = self._reason, self._measured
        level = ERROR if stopped else WARN if reason else OK
        self._diagnostics.set(
            "safety",
            level,
            reason or mode.name.lower(),
            dropped_commands=self._controller.dropped,
            leader=leader.name,
            unheard_actions=self._controller.unheard,
        )
        if measured is None:
            self._diagnostics.set("joint_states", WARN, self._refused_states or "none yet")
        else:
            age = now - measured.received_at
            level = WARN if self._refused_states else OK
            self._diagnostics.set("joint_states", level, self._refused_states or "received", age_s=f"{age:.2f}")


def main() -> None:
    """Entry point."""
    StopSignal.install()
    run_node(ArmControllerNode)
