# SPDX-License-Identifier: Apache-2.0
"""The action servers of ros2_control's controllers, answered by the simulated arm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from rclpy.action import CancelResponse, GoalResponse
from rclpy.node import Node
from rclpy.task import Future
from serl_robots.model.joint_trajectory import JointTrajectoryPlan, TrajectoryError
from serl_ros.action_server import GuardedActionServer
from serl_ros.log import WARN, log

from serl_sim.scene.scene import TIMESTEP
from serl_sim.simulation import Simulation

_GRIPPER_TOLERANCE = 0.002  # [m] of the width
_STALL_VELOCITY = 0.001  # [m/s] below which a finger stands still
_STALL_TIME = 0.3  # [s] of standing still away from the goal that is a stall
_JOINT_TOLERANCE = 0.02  # [rad] at the end of a trajectory
_JOINT_TIME = 1.0  # [s] that the arm may take longer than the trajectory

_REACHED, _STALLED, _CANCELED, _PREEMPTED, _BROKEN = "reached", "stalled", "canceled", "preempted", "broken"


class ControllerActions:
    """`gripper_controller/gripper_cmd` and `joint_trajectory_controller/follow_joint_trajectory`.

    A world in lockstep moves on by itself while a goal is under way. So these are for scripts and planners, not for use
    while an actor takes steps: its observations would be of states that it did not command. A goal whose world
    breaks is aborted.
    """

    def __init__(self, node: Node, simulation: Simulation, wake: Callable[[], None]) -> None:
        """Offer the actions.

        Args:
            node: that owns the servers.
            simulation: that is commanded.
            wake: called when there is something to do, so that a world in lockstep starts to move.

        Raises:
            ValueError: the package control_msgs is missing.
        """
        try:
            from control_msgs.action import FollowJointTrajectory, ParallelGripperCommand
        except ImportError as error:
            raise ValueError(
                "the package control_msgs is missing or has no ParallelGripperCommand: install it, or build the "
                "workspace's own with ./serl shell"
            ) from error
        self._node = node
        self._simulation = simulation
        self._wake = wake
        self._finger = simulation.world.robot.gripper.joints[0]
        self._gripper_action, self._trajectory_action = ParallelGripperCommand, FollowJointTrajectory
        self._servers = [
            GuardedActionServer(
                node,
                ParallelGripperCommand,
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
                goal_callback=lambda _: GoalResponse.ACCEPT,
                cancel_callback=lambda _: CancelResponse.ACCEPT,
            ),
        ]

    # Gripper: the position of its first joint, one finger [m] or a jaw's hinge [rad].

    def _check_grip(self, goal: Any) -> GoalResponse:
        positions = list(goal.command.position)
        names = list(goal.command.name)
        if len(positions) == 1 and np.isfinite(positions).all() and names in ([], [self._finger]):
            return GoalResponse.ACCEPT
        text = f"gripper_cmd refused: expected one finite position of {self._finger}, found {positions} of {names}"
        log(self._node, WARN, text, throttle=1.0)
        return GoalResponse.REJECT

    async def _grip(self, goal: Any) -> Any:
        simulation, world = self._simulation, self._simulation.world
        gripper = world.robot.gripper
        width = gripper.within(gripper.width([float(goal.request.command.position[0])] * len(gripper.joints)))
        done: Future = Future()
        still = 0.0
        last_ns = simulation.stamp_ns

        def observe(was_reset: bool) -> bool:
            nonlocal still, last_ns
            elapsed, last_ns = 1e-9 * (simulation.stamp_ns - last_ns), simulation.stamp_ns
            still = still + elapsed if world.finger_speed < _STALL_VELOCITY else 0.0
            if simulation.broken:
                done.set_result(_BROKEN)
            elif was_reset or simulation.width != width:
                done.set_result(_PREEMPTED)
            elif goal.is_cancel_requested:
                done.set_result(_CANCELED)
            elif abs(world.gripper_width - width) < _GRIPPER_TOLERANCE:
                done.set_result(_REACHED)
            elif still >= _STALL_TIME:
                done.set_result(_STALLED)
            return bool(done.done())

        if simulation.broken:
            outcome = _BROKEN
        else:
            simulation.grip(width)
            simulation.observe(observe)
            self._wake()
            outcome = await done
        result = self._gripper_action.Result(reached_goal=outcome == _REACHED, stalled=outcome == _STALLED)
        result.state.name = [self._finger]
        result.state.position = [gripper.position(world.gripper_width)]
        _finish(goal, outcome)
        return result

    # Joint trajectory

    async def _follow(self, goal: Any) -> Any:
        simulation, world = self._simulation, self._simulation.world
        result = self._trajectory_action.Result()
        joints = world.robot.arm_joints
        arm = slice(len(joints))
        if simulation.broken:
            result.error_code, result.error_string = result.INVALID_GOAL, simulation.broken
            goal.abort()
            return result
        try:
            plan = JointTrajectoryPlan.from_message(
                goal.request.trajectory, joints, world.joint_positions[arm], world.arm_limits
            )
        except TrajectoryError as error:
            result.error_code, result.error_string = result.INVALID_GOAL, str(error)
            goal.abort()
            return result
        done: Future = Future()
        started_ns = simulation.stamp_ns
        distance = np.inf

        def observe(was_reset: bool) -> bool:
            nonlocal distance
            distance = float(np.abs(world.joint_positions[arm] - plan.goal).max())
            late = 1e-9 * (simulation.stamp_ns - started_ns) - plan.duration
            following = simulation.is_following(plan)
            if simulation.broken:
                done.set_result(_BROKEN)
            elif was_reset or (not following and late < -TIMESTEP) or simulation.target is not None:
                done.set_result(_PREEMPTED)
            elif goal.is_cancel_requested:
                simulation.command_trajectory(JointTrajectoryPlan.hold(world.joint_positions[arm]))
                done.set_result(_CANCELED)
            elif not following and distance < _JOINT_TOLERANCE:
                done.set_result(_REACHED)
            elif not following and late > _JOINT_TIME:
                done.set_result(_STALLED)
            return bool(done.done())

        simulation.command_trajectory(plan)
        simulation.observe(observe)
        self._wake()
        outcome = await done
        if outcome == _STALLED:
            result.error_code = result.GOAL_TOLERANCE_VIOLATED
            result.error_string = f"a joint is {distance:.3f} rad from its goal {_JOINT_TIME} s after the end"
        elif outcome in (_PREEMPTED, _BROKEN):
            reason = simulation.broken if outcome == _BROKEN else "another command took over"
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
