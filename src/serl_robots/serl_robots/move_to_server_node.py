# SPDX-License-Identifier: Apache-2.0
"""The action `arm/move_to`, answered by the arm controller."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.action import CancelResponse, GoalResponse
from rclpy.node import Node
from sensor_msgs.msg import JointState
from serl_config.schema import suggestion
from serl_ros.action_server import GuardedActionServer
from serl_ros.log import WARN, log
from serl_ros.parameters import declare

from serl_interfaces.action import MoveTo
from serl_interfaces.srv import PlanMotion
from serl_robots.arm_messages_node import fill_pose, read_joints, read_pose
from serl_robots.control.arm_controller import ArmController
from serl_robots.control.control_step import Command, Measured
from serl_robots.control.move_to import MoveOutcome, MoveRejected
from serl_robots.control.ways.way_move import AwaitedWay
from serl_robots.model.pose import Pose, PoseError
from serl_robots.model.robot import RobotModel
from serl_robots.way_client_node import WayClient

_FEEDBACK_PERIOD = 0.1  # [s]
_REPEAT_AFTER = 1.0  # [s] between two log lines


def declare_planner(node: Node, joints: tuple[str, ...], period: float) -> WayClient | None:
    """Who plans for the arm controller, by its parameters; None where its motions go straight.

    Args:
        node: the arm controller's.
        joints: the arm's joints.
        period: of control [s].

    Raises:
        ParameterError: a parameter cannot be used.
    """
    planned = declare(
        node, "planned_motions", False, "arm/move_to asks the node planner for ways; else it goes straight."
    )
    patience = declare(node, "planner_timeout", 8.0, "Longest wait for a way of the planner [s].", range=(0.1, 60.0))
    return WayClient(node, joints, period, patience) if planned else None


class MoveToServer:
    """Turns goals into motions of the controller and their outcomes into results."""

    def __init__(
        self,
        node: Node,
        robot: RobotModel,
        base_frame: str,
        controller: Callable[[], ArmController],
        publish: Callable[[Command | None], None],
        period: float,
    ) -> None:
        """Offer the action.

        Args:
            node: that offers it.
            robot: that moves.
            base_frame: of the poses.
            controller: gives the controller, or raises MoveRejected.
            publish: takes what the controller commands.
            period: of control [s].

        Raises:
            ParameterError: a parameter of motions cannot be used.
        """
        self._planner = declare_planner(node, robot.arm_joints, period)
        self._node, self._robot, self._controller, self._publish = node, robot, controller, publish
        self._base_frame = base_frame
        self._active: Any = None
        self._feedback_due_at = 0.0
        self._server = GuardedActionServer(
            node,
            MoveTo,
            "arm/move_to",
            lambda _: MoveTo.Result(),  # goals are executed when they are over, see `_begin`
            goal_callback=lambda _: GoalResponse.ACCEPT,  # a refusal has a reason, so it is a result
            handle_accepted_callback=self._begin,
            cancel_callback=self._cancel,
        )

    def destroy(self) -> None:
        """Take the action back; rclpy does not do so when a node is destroyed."""
        self._server.destroy()

    def look(self, now: float) -> None:
        """Tell how far it is, ten times a second at most, and end vain waits; `now` [s] is the local time."""
        if self._planner is not None:
            if self._active is not None and self._active.is_cancel_requested:
                self._publish(self._controller().on_way(now))  # a world in lockstep stands while a way is planned
            self._planner.look(now)
        if self._active is not None and now >= self._feedback_due_at:
            self._feedback_due_at = now + _FEEDBACK_PERIOD
            self._active.publish_feedback(MoveTo.Feedback(distance_left=self._controller().move_error))

    def abandon(self, reason: str) -> None:
        """End the goal under way: the controller that worked on it is gone."""
        goal, self._active = self._active, None
        if goal is not None:
            self._end(goal, MoveOutcome(False, "estop", reason, 0.0))

    def _begin(self, goal: Any) -> None:
        # Not a coroutine that waits for the end: rclpy polls a waiting coroutine without pause. A goal is executed
        # when it is over, with its outcome.
        def done(outcome: MoveOutcome) -> None:
            if self._active is goal:
                self._active = None
                if self._planner is not None:
                    self._planner.forget()
            self._end(goal, outcome)

        before, self._active = self._active, goal  # at once: it may be over before it has begun
        try:
            command = self._start(goal.request, done)
        except Exception as error:
            self._active = before
            if not isinstance(error, MoveRejected):
                raise
            log(self._node, WARN, f"move_to rejected: {error}", throttle=_REPEAT_AFTER)
            self._end(goal, MoveOutcome(False, "rejected", str(error), 0.0))
            return
        self._publish(command)

    def _end(self, goal: Any, outcome: MoveOutcome) -> None:
        try:
            goal.execute(lambda handle: self._finish(handle, outcome))
        except Exception as error:  # noqa: BLE001 - an answer that cannot be given is no reason to stop the arm
            log(self._node, WARN, f"move_to: no answer could be given: {error}", throttle=_REPEAT_AFTER)

    def _start(self, request: Any, done: Callable[[MoveOutcome], None]) -> Command | None:
        scaling = 1.0 if request.velocity_scaling == 0.0 else float(request.velocity_scaling)
        goal = self._goal(request)
        if self._planner is not None:
            return self._start_planned(self._planner, goal, scaling, done)
        now = time.monotonic()
        if isinstance(goal, Pose):
            return self._controller().move_to_pose(goal, scaling, done, now)
        return self._controller().move_to_joints(goal, scaling, done, now)

    def _start_planned(
        self, planner: WayClient, goal: Pose | NDArray[np.float64], scaling: float, done: Callable[[MoveOutcome], None]
    ) -> Command | None:
        """A motion along a way that is asked for once the arm stands."""
        if not 0.0 < scaling <= 1.0:
            raise MoveRejected(f"velocity_scaling: expected a value in (0, 1], found {scaling}")
        planner.check()
        request = PlanMotion.Request(velocity_scaling=scaling)
        if isinstance(goal, Pose):
            request.goal_kind = PlanMotion.Request.GOAL_POSE
            request.pose.header.frame_id = self._base_frame
            fill_pose(request.pose.pose, goal)
        else:
            request.goal_kind = PlanMotion.Request.GOAL_JOINTS
            request.joints = JointState(name=list(self._robot.arm_joints), position=goal.tolist())

        def error(measured: Measured) -> float:
            return (
                goal.distance(measured.tcp) if isinstance(goal, Pose) else float(np.abs(goal - measured.joints).max())
            )

        def take(answer: NDArray[np.float64] | MoveRejected) -> None:
            way.answer(answer)
            self._publish(self._controller().on_way(time.monotonic()))

        way = AwaitedWay(lambda start: planner.ask(request, start, take, time.monotonic()))
        return self._controller().move_along_way(way, error, done, time.monotonic())

    def _goal(self, request: Any) -> Pose | NDArray[np.float64]:
        """Where a goal is: a pose of the tool, or joint positions (n,) [rad]."""
        if request.kind == MoveTo.Goal.KIND_POSE:
            return self._pose(request.pose)
        if request.kind == MoveTo.Goal.KIND_JOINTS:
            return self._joints(request.joints)
        if request.kind == MoveTo.Goal.KIND_NAMED:
            known = self._robot.named_configurations
            if request.name not in known:
                raise MoveRejected(f"unknown configuration {request.name!r}" + suggestion(request.name, [*known]))
            return np.array(known[request.name])
        raise MoveRejected(f"kind: expected 0 (named), 1 (joints) or 2 (pose), found {request.kind}")

    def _pose(self, message: Any) -> Pose:
        if message.header.frame_id != self._base_frame:
            raise MoveRejected(f"pose: expected frame_id {self._base_frame!r}, found {message.header.frame_id!r}")
        try:
            return read_pose(message.pose)
        except PoseError as error:
            raise MoveRejected(f"pose: {error}") from error

    def _joints(self, message: Any) -> NDArray[np.float64]:
        try:
            return read_joints(message, self._robot.arm_joints)
        except ValueError as error:
            raise MoveRejected(f"joints: {error}") from error

    def _cancel(self, goal: Any) -> CancelResponse:
        if goal is self._active:
            self._controller().cancel_move()
            return CancelResponse.ACCEPT
        return CancelResponse.REJECT

    def _finish(self, goal: Any, outcome: MoveOutcome) -> Any:
        if outcome.success:
            goal.succeed()
        elif goal.is_cancel_requested:
            goal.canceled()
        else:
            goal.abort()
        return MoveTo.Result(
            success=outcome.success,
            termination_reason=outcome.termination_reason,
            message=outcome.message,
            position_error=outcome.error,
        )
