# SPDX-License-Identifier: Apache-2.0
"""Asks the node `planner` for ways of `arm/move_to`, and waits for no answer longer than it may."""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node
from sensor_msgs.msg import JointState
from serl_config.text import printable

from serl_interfaces.srv import PlanMotion
from serl_robots.control.move_to import MoveRejected
from serl_robots.model.joint_trajectory import JointTrajectoryPlan, TrajectoryError

SERVICE: Final = "plan_motion"
_REMEDY: Final = "start it (planner:=ompl of the launch file does), or launch with planner:=straight"
_TOLERANCE: Final = 1e-6  # [s]
_LONGEST: Final = 20_000  # points of a way

Positions = NDArray[np.float64]
Take = Callable[[Positions | MoveRejected], None]


class WayClient:
    """One question at a time; the answer of an earlier one is passed over."""

    def __init__(self, node: Node, joints: tuple[str, ...], period: float, patience: float) -> None:
        """Ask by the service `plan_motion`.

        Args:
            node: that asks.
            joints: the arm's joints.
            period: of control [s], between two points of a way.
            patience: longest wait for an answer [s].
        """
        self._joints, self._period, self._patience = joints, period, patience
        self._client = node.create_client(PlanMotion, SERVICE)
        self._name = node.resolve_service_name(SERVICE)
        self._question: Any = None  # the future of the question under way
        self._take: Take = lambda _: None
        self._until = 0.0  # local time [s]

    def check(self) -> None:
        """Refuse at once where nobody answers.

        Raises:
            MoveRejected: the planner is not there.
        """
        if not self._client.service_is_ready():
            raise MoveRejected(f"the node planner does not offer {self._name}; {_REMEDY}")

    def ask(self, request: PlanMotion.Request, start: Positions, take: Take, now: float) -> None:
        """Ask for a way; `take` gets its points (t, n) [rad], or why there is none.

        Args:
            request: with goal and scaling.
            start: joint positions (n,) [rad] at which the arm stands.
            take: called once, unless `forget` is called before.
            now: local time [s].

        Raises:
            MoveRejected: the planner is not there.
        """
        self.check()
        request.start = JointState(name=list(self._joints), position=start.tolist())
        self._take, self._until = take, now + self._patience
        self._question = question = self._client.call_async(request)
        question.add_done_callback(lambda future: self._on_answer(future, start))

    def forget(self) -> None:
        """Nobody waits for an answer any more."""
        question, self._question = self._question, None
        if question is not None:
            self._client.remove_pending_request(question)

    def look(self, now: float) -> None:
        """Ends a wait that has lasted too long; to be called some times a second with the local time [s]."""
        if self._question is not None and now >= self._until:
            self.forget()
            text = f"the node planner did not answer {self._name} within {self._patience:g} s; {_REMEDY}"
            self._take(MoveRejected(text))

    def _on_answer(self, future: Any, start: Positions) -> None:
        if future is not self._question or future.cancelled():
            return
        self._question = None
        try:
            way: Positions | MoveRejected = self._way(future.result(), start)
        except MoveRejected as error:
            way = error
        self._take(way)

    def _way(self, answer: Any, start: Positions) -> Positions:
        """Points (t, n) [rad] of an answer. Raises MoveRejected where it has none that can be followed."""
        if not answer.success:
            raise MoveRejected(printable(answer.message) or "the node planner gave no reason; look into its log")
        trajectory = answer.trajectory
        try:
            plan = JointTrajectoryPlan.from_message(trajectory, self._joints, start)
        except TrajectoryError as error:
            raise MoveRejected(f"{self._name} answered with a way that cannot be followed: {error}") from error
        count = len(trajectory.points)
        last = trajectory.points[-1].time_from_start
        duration = last.sec + 1e-9 * last.nanosec
        if count > _LONGEST or abs(duration - (count - 1) * self._period) > _TOLERANCE * count:
            raise MoveRejected(
                f"{self._name} answered with {count} points in {duration:g} s, expected one each {self._period:g} s; "
                "give both nodes the same task"
            )
        return np.array([plan.at(index * self._period) for index in range(count)])
