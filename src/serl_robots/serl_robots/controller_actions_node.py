# SPDX-License-Identifier: Apache-2.0
"""The action servers of ros2_control's controllers, for arms that are simulated or only pretend."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from rclpy.action import CancelResponse, GoalResponse
from rclpy.node import Node
from rclpy.task import Future
from serl_ros.action_server import GuardedActionServer
from serl_ros.log import WARN, log

from serl_robots.model.joint_trajectory import JointTrajectoryPlan, TrajectoryError
from serl_robots.model.pose import Pose
from serl_robots.model.robot import RobotModel

_GRIPPER_TOLERANCE = 0.002  # [m] of the width
_STALL_VELOCITY = 0.001  # [m/s] below which a finger stands still
_STALL_TIME = 0.3  # [s] of standing still away from the goal that is a stall
_JOINT_TOLERANCE = 0.02  # [rad] at the end of a trajectory
_JOINT_TIME = 1.0  # [s] that the arm may take longer than the trajectory
_EARLY = 0.002  # [s] before its end that a trajectory may be over

_REACHED, _STALLED, _CANCELED, _PREEMPTED, _BROKEN = "reached", "stalled", "canceled", "preempted", "broken"


class Measured(Protocol):
    """Where the arm is."""

    @property
    def robot(self) -> RobotModel:
        """Which one it is."""

    @property
    def arm_limits(self) -> NDArray[np.float64]:
        """Lowest and highest position of each arm joint, float64 (n, 2) [rad]."""

    @property
    def joint_positions(self) -> NDArray[np.float64]:
        """Positions in the order of `robot.joints`, the arm's first, float64 (m,) [rad] or [m]."""

    @property
    def gripper_width(self) -> float:
        """[m]."""

    @property
    def finger_speed(self) -> float:
        """Speed of the fastest finger [m/s]."""


class CommandedArm(Protocol):
    """What the actions command and look at."""

    @property
    def world(self) -> Measured:
        """Where the arm is now."""

    @property
    def stamp_ns(self) -> int:
        """The arm's time."""

    @property
    def broken(self) -> str:
        """Why nothing can move; empty while it can."""

    @property
    def width(self) -> float:
        """Gripper width that is commanded [m]."""

    @property
    def target(self) -> Pose | None:
        """Tool pose that is commanded, if one is."""

    def grip(self, width: float) -> None:
        """Move the fingers to a width [m]."""

    def command_trajectory(self, plan: JointTrajectoryPlan) -> None:
        """Lead the joints along `plan`."""

    def is_following(self, plan: JointTrajectoryPlan) -> bool:
        """Whether `plan` leads, and is not over."""

    def observe(self, observer: Callable[[bool], bool]) -> None:
        """Call `observer` after each step until it returns True; its argument is whether the world was reset."""


class ControllerActions:
    """`gripper_controller/gripper_cmd` and `joint_trajectory_controller/follow_joint_trajectory`.

    A world in lockstep moves on by itself while a goal is under way. So these are for scripts and planners, not for use
    while an actor takes steps: its observations would be of states that it did not command. A goal whose world
    breaks is aborted.
    """

    def __init__(
        self,
        node: Node,
        arm: CommandedArm,
        wake: Callable[[], None] = lambda: None,
        *,
        gripper: Literal["ParallelGripperCommand", "GripperCommand"] = "ParallelGripperCommand",
        refusal: Callable[[], str] = lambda: "",
    ) -> None:
        """Offer the actions.

        Args:
            node: that owns the servers.
            arm: that is commanded.
            wake: called when there is something to do, so that a world in lockstep starts to move.
            gripper: type of the gripper's action; GripperCommand is that of ros2_control up to Jazzy.
            refusal: says why trajectories are refused now; empty: they are not.

        Raises:
            ValueError: the package control_msgs is missing.
        """
        try:
            from control_msgs.action import FollowJointTrajectory, GripperCommand, ParallelGripperCommand
        except ImportError as error:
            raise ValueError(
                "the package control_msgs is missing or has no ParallelGripperCommand: install it, or build the "
                "workspace's own with ./serl shell"
            ) from error
        self._node = node
        self._arm = arm
        self._wake = wake
        self._refusal = refusal
        self._finger = arm.world.robot.gripper.joints[0]
        self._is_parallel = gripper == "ParallelGripperCommand"
        self._gripper_action = ParallelGripperCommand if self._is_parallel else GripperCommand
        self._trajectory_action = FollowJointTrajectory
        self._servers = [
            GuardedActionServer(
                node,
                self._gripper_action,
                "gripper_controller/gripper_cmd",
                self._grip,
                goal_callback=self._check_grip,
                cancel_callback=lambda _: CancelResponse.ACCEPT,
            ),
            GuardedActionServer(
                node,
                FollowJointTrajectory,
                "joint_trajectory_controller/follow_joint_trajectory",
                self._follow,
                goal_callback=self._check_trajectory,
                cancel_callback=lambda _: CancelResponse.ACCEPT,
            ),
        ]

    def destroy(self) -> None:
        """Take the actions back; before the node is destroyed, which they would keep."""
        for server in self._servers:
            server.destroy()

    # Gripper: the position of its first joint, one finger [m] or a jaw's hinge [rad].

    def _check_grip(self, goal: Any) -> GoalResponse:
        positions = list(goal.command.position) if self._is_parallel else [goal.command.position]
        names = list(goal.command.name) if self._is_parallel else []
        if len(positions) == 1 and np.isfinite(positions).all() and names in ([], [self._finger]):
            return GoalResponse.ACCEPT
        text = f"gripper_cmd refused: expected one finite position of {self._finger}, found {positions} of {names}"
        log(self._node, WARN, text, throttle=1.0)
        return GoalResponse.REJECT

    async def _grip(self, goal: Any) -> Any:
        arm, world = self._arm, self._arm.world
        gripper = world.robot.gripper
        position = goal.request.command.position[0] if self._is_parallel else goal.request.command.position
        width = gripper.within(gripper.width([float(position)] * len(gripper.joints)))
        done: Future = Future()
        still = 0.0
        last_ns = arm.stamp_ns

        def observe(was_reset: bool) -> bool:
            nonlocal still, last_ns
            elapsed, last_ns = 1e-9 * (arm.stamp_ns - last_ns), arm.stamp_ns
            still = still + elapsed if world.finger_speed < _STALL_VELOCITY else 0.0
            if arm.broken:
                done.set_result(_BROKEN)
            elif was_reset or arm.width != width:
                done.set_result(_PREEMPTED)
            elif goal.is_cancel_requested:
                done.set_result(_CANCELED)
            elif abs(world.gripper_width - width) < _GRIPPER_TOLERANCE:
                done.set_result(_REACHED)
            elif still >= _STALL_TIME:
                done.set_result(_STALLED)
            return bool(done.done())

        if arm.broken:
            outcome = _BROKEN
        else:
            arm.grip(width)
            arm.observe(observe)
            self._wake()
            outcome = await done
        result = self._gripper_action.Result(reached_goal=outcome == _REACHED, stalled=outcome == _STALLED)
        if self._is_parallel:
            result.state.name = [self._finger]
            result.state.position = [gripper.position(world.gripper_width)]
        else:
            result.position = gripper.position(world.gripper_width)
        _finish(goal, outcome)
        return result

    # Joint trajectory

    def _check_trajectory(self, _goal: Any) -> GoalResponse:
        reason = self._refusal()
        if not reason:
            return GoalResponse.ACCEPT
        log(self._node, WARN, f"follow_joint_trajectory refused: {reason}", throttle=1.0)
        return GoalResponse.REJECT

    async def _follow(self, goal: Any) -> Any:
        arm, world = self._arm, self._arm.world
        result = self._trajectory_action.Result()
        joints = world.robot.arm_joints
        own = slice(len(joints))
        if arm.broken:
            result.error_code, result.error_string = result.INVALID_GOAL, arm.broken
            goal.abort()
            return result
        try:
            plan = JointTrajectoryPlan.from_message(
                goal.request.trajectory, joints, world.joint_positions[own], world.arm_limits
            )
        except TrajectoryError as error:
            result.error_code, result.error_string = result.INVALID_GOAL, str(error)
            goal.abort()
            return result
        done: Future = Future()
        started_ns = arm.stamp_ns
        distance = np.inf

        def observe(was_reset: bool) -> bool:
            nonlocal distance
            distance = float(np.abs(world.joint_positions[own] - plan.goal).max())
            late = 1e-9 * (arm.stamp_ns - started_ns) - plan.duration
            following = arm.is_following(plan)
            if arm.broken:
                done.set_result(_BROKEN)
            elif was_reset or (not following and late < -_EARLY) or arm.target is not None:
                done.set_result(_PREEMPTED)
            elif goal.is_cancel_requested:
                arm.command_trajectory(JointTrajectoryPlan.hold(world.joint_positions[own]))
                done.set_result(_CANCELED)
            elif not following and distance < _JOINT_TOLERANCE:
                done.set_result(_REACHED)
            elif not following and late > _JOINT_TIME:
                done.set_result(_STALLED)
            return bool(done.done())

        arm.command_trajectory(plan)
        arm.observe(observe)
        self._wake()
        outcome = await done
        if outcome == _STALLED:
            result.error_code = result.GOAL_TOLERANCE_VIOLATED
            result.error_string = f"a joint is {distance:.3f} rad from its goal {_JOINT_TIME} s after the end"
        elif outcome in (_PREEMPTED, _BROKEN):
            reason = arm.broken if outcome == _BROKEN else "another command took over"
            result.error_code, result.error_string = result.INVALID_GOAL, reason
        _finish(goal, _PREEMPTED if outcome == _STALLED else outcome)
        return result


def _finish(goal: Any, outcome: str) -> None:
    if outcome == _CANCELED:
        goal.canceled()
    elif outcome in (_PREEMPTED, _BROKEN):
        goal.abort()
    else:
        goal.succeed()
