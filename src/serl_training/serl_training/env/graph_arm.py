# SPDX-License-Identifier: Apache-2.0
"""What an arm does between two episodes: it lets go, and goes to where the next one may begin. Two do so in turn."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from rclpy.action import ActionClient
from rclpy.task import Future
from serl_config.text import printable
from serl_robots.model.pose import Pose
from serl_ros.log import INFO, log
from serl_tasks.arm_sample import arm_topic

from serl_interfaces.action import MoveTo
from serl_tasks import Task
from serl_training.env.graph_connection import GraphConnection, GraphError
from serl_training.env.graph_inputs import GraphInputs

_RETRY_PERIOD = 1.0  # [s] between two tries to move the arm
_NOTICE_PERIOD = 5.0  # [s] between log lines about something that is waited for
_OPENING_TIME = 1.0  # [s] that the gripper gets to let go of what it holds
_LONGEST_MOTION = 60.0  # [s] that a motion of the arm may take


class EpisodeGraph(Protocol):
    """What a reset may use of the environment that it is for."""

    task: Task
    tasks: Mapping[str, Task]
    connection: GraphConnection
    inputs: GraphInputs

    @property
    def rest_action(self) -> NDArray[np.float32]:
        """The action (A,) that changes nothing."""

    def idle(self) -> None:
        """Tell the graph that no episode is running."""

    def command(self, action: NDArray[np.float32]) -> None:
        """Act for one control period, which is no step of an episode and is stored nowhere.

        Args:
            action: (A,) in [-1, 1], as in `step`.

        Raises:
            GraphError: the arm controller did not answer.
        """


class ArmBetweenEpisodes:
    """Lets the arm let go and move, and tries again where that is refused for now: it is stopped, or somebody leads it.

    What is waited for is said on the log every few seconds, and to `notice`.
    """

    def __init__(self, graph: EpisodeGraph, timeout: float, patience: float, notice: Callable[[str], None]) -> None:
        """Move the arm of a graph.

        Args:
            graph: of the episodes.
            timeout: longest wait for the arm controller's answers [s].
            patience: how long to try again [s].
            notice: told a few times a second what is waited for.
        """
        self._graph, self._timeout, self._patience, self._notice = graph, timeout, patience, notice
        self._connection = graph.connection
        self._movers = {
            arm: ActionClient(graph.connection.node, MoveTo, arm_topic(arm, "arm/move_to"))
            for arm in graph.task.arm_names
        }

    def wait_for_state(self) -> None:
        """Wait until something is known of the arm.

        Raises:
            GraphError: no arm controller tells in time.
        """
        inputs = self._graph.inputs
        self._connection.wait(lambda: inputs.arm is not None, self._timeout, lambda: "arm/state (arm_controller)")

    def let_go(self) -> str:
        """Open the gripper as far as an episode begins with, for others to get what it holds; returns a problem.

        These are steps after the last one of the episode that is over. Before the first episode nothing is known of
        what the gripper holds, and it stays as it is.
        """
        inputs, task = self._graph.inputs, self._graph.task
        if inputs.step == 0 or inputs.arm is None:
            return ""
        width = task.start.gripper_width
        action = task.action.rest(dict.fromkeys(task.arms, width) if task.arms else width)
        for _ in range(max(1, round(_OPENING_TIME / task.control_period))):
            if np.array_equal(self._graph.rest_action, action):
                break
            self._graph.command(action)
        return "the gripper was not opened" if not np.array_equal(self._graph.rest_action, action) else ""

    def move_to_named(self, name: str) -> str:
        """Move to a named configuration of the robot; returns why it is not there, empty if it is."""
        goal = MoveTo.Goal(kind=MoveTo.Goal.KIND_NAMED, name=name)
        return next(filter(None, (self._move(arm, goal) for arm in self._movers)), "")

    def move_to_pose(self, pose: Pose, arm: str = "") -> str:
        """Move the tool to a pose, base frame; returns why it is not there, empty if it is.

        Args:
            pose: of the tool.
            arm: prefix of the arm, of two.
        """
        state = self._graph.inputs.state_of(arm)
        if state is None:
            return "nothing is known of the arm"
        goal = MoveTo.Goal(kind=MoveTo.Goal.KIND_POSE)
        goal.pose.header.frame_id = state.header.frame_id
        position, orientation = goal.pose.pose.position, goal.pose.pose.orientation
        position.x, position.y, position.z = pose.position.tolist()
        orientation.x, orientation.y, orientation.z, orientation.w = pose.quaternion.tolist()
        return self._move(arm, goal)

    def insist(self, act: Callable[[], str], what: str) -> None:
        """Do something until there is no problem with it.

        Args:
            act: tries it, and returns the problem, empty if there was none.
            what: what does not happen as long as there is one.

        Raises:
            GraphError: there is no arm controller, or there is still a problem after all patience.
        """
        deadline = time.monotonic() + self._patience
        while problem := act():
            text = f"{what}: {problem}"
            if time.monotonic() >= deadline:
                raise GraphError(text)
            again = time.monotonic() + _RETRY_PERIOD
            self._connection.wait(
                lambda again=again: time.monotonic() >= again,  # type: ignore[misc]
                2.0 * _RETRY_PERIOD,
                lambda text=text: f"{text}; trying again",  # type: ignore[misc]
                notice=self.say,
            )

    def say(self, what: str) -> None:
        """Say what is waited for."""
        log(self._connection.node, INFO, f"waiting for {what}", throttle=_NOTICE_PERIOD, key=("waiting", what))
        self._notice(what)

    def _move(self, arm: str, goal: MoveTo.Goal) -> str:
        connection, mover, name = self._connection, self._movers[arm], arm_topic(arm, "arm/move_to")
        connection.wait(mover.server_is_ready, self._timeout, lambda: f"action {name} (arm_controller)")
        sending = mover.send_goal_async(goal)
        try:
            connection.wait(sending.done, self._timeout, lambda: f"the answer of {name} (arm_controller)")
        except BaseException:
            # Accepted later, it would move the arm with nobody waiting for it.
            sending.add_done_callback(_cancel_accepted)
            raise
        handle = sending.result()
        if not handle.accepted:
            return "the goal was not accepted"
        ending = handle.get_result_async()
        try:
            connection.wait(ending.done, _LONGEST_MOTION, lambda: f"the end of {name} (arm_controller)")
        except BaseException:
            handle.cancel_goal_async()
            raise
        result = ending.result().result
        return "" if result.success else f"{result.termination_reason}: {printable(result.message)}"


def _cancel_accepted(sending: Future) -> None:
    """Cancel a goal whose answer came after nobody waited for it any more."""
    handle = sending.result()
    if handle is not None and handle.accepted:
        handle.cancel_goal_async()
