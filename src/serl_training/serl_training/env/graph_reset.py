# SPDX-License-Identifier: Apache-2.0
"""How the arm and its world get to the start of an episode: by the simulator, or by the arm itself and a person.

A `Reset` is made by a `ResetFactory` for each environment. A third one would be a policy that was trained to undo the
task: its `prepare` acts by `command` until it takes the world for ready, see `EpisodeGraph`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from rclpy.action import ActionClient
from rclpy.task import Future
from serl_config.text import printable
from serl_ros.log import INFO, log
from serl_tasks.messages import nanoseconds
from std_srvs.srv import Trigger

from serl_interfaces.action import MoveTo
from serl_interfaces.srv import ResetWorld
from serl_tasks import Task
from serl_training.env.episode import EpisodeStart
from serl_training.env.graph_connection import GraphConnection, GraphError
from serl_training.env.graph_inputs import GraphInputs

READY_SERVICE = "episode/ready"
_RETRY_PERIOD = 1.0  # [s] between two tries to move the arm
_NOTICE_PERIOD = 5.0  # [s] between log lines about something that is waited for
_OPENING_TIME = 1.0  # [s] that the gripper gets to let go of what it holds
_LONGEST_MOTION = 60.0  # [s] that a motion of the arm may take


class EpisodeGraph(Protocol):
    """What a reset may use of the environment that it is for."""

    task: Task
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


class Reset(Protocol):
    """Brings the arm and its world to the start of an episode."""

    def prepare(self, start: EpisodeStart) -> None:
        """Do what has to be done before the episode is announced: from then on judges judge and people may lead.

        Raises:
            GraphError: it could not be done in time.
        """

    def begin(self, start: EpisodeStart) -> int:
        """Do what is done in the episode, before its first step; returns the stamp of the start state [ns].

        Raises:
            GraphError: it could not be done in time.
        """


ResetFactory = Callable[[EpisodeGraph, float], Reset]
"""Makes a reset for an environment; the second argument is the longest wait for a node of the graph [s]."""


class SimulatorReset:
    """The simulator draws the start state from the episode's seed, by the service `sim/reset`."""

    def __init__(self, graph: EpisodeGraph, timeout: float) -> None:
        """Reset the world of `graph`, which has `timeout` [s] to answer."""
        self._connection, self._timeout = graph.connection, timeout
        self._client = graph.connection.node.create_client(ResetWorld, "sim/reset")

    def prepare(self, start: EpisodeStart) -> None:
        """Nothing: the simulator resets within the episode, which its messages are of from then on."""

    def begin(self, start: EpisodeStart) -> int:
        """Reset the world; returns the stamp of its start state [ns].

        Raises:
            GraphError: the simulator is not there or refuses.
        """
        request = ResetWorld.Request(seed=start.seed, episode=start.number)
        reply = self._connection.call(self._client, request, self._timeout, "mujoco_bridge")
        if not reply.success:
            raise GraphError(f"sim/reset refused seed {start.seed}, episode {start.number}: {reply.message}")
        return nanoseconds(reply.stamp)


@dataclass(frozen=True)
class PersonResetSettings:
    """How a reset with a person goes."""

    configuration: str = "home"
    """Named configuration of the robot that the arm moves to."""
    timeout: float = 600.0
    """Longest wait for the person [s]."""


class PersonReset:
    """The gripper opens, the arm moves away, a person puts the objects in place and calls `episode/ready`.

    What is waited for is said on the log every few seconds, and to `notice`. Where the arm cannot be moved for now (it
    is stopped, somebody leads it) it is tried again. The seed of the episode has no meaning here.
    """

    def __init__(
        self,
        graph: EpisodeGraph,
        timeout: float,
        settings: PersonResetSettings = PersonResetSettings(),
        notice: Callable[[str], None] = lambda _text: None,
    ) -> None:
        """Serve `episode/ready`.

        Args:
            graph: of the episodes.
            timeout: longest wait for the arm controller's answers [s].
            settings: where the arm moves, how long the person has.
            notice: told a few times a second what is waited for, and "" when that is over.
        """
        self._graph, self._settings, self._notice = graph, settings, notice
        self._connection, self._answer_timeout = graph.connection, timeout
        node = graph.connection.node
        self._mover = ActionClient(node, MoveTo, "arm/move_to")
        self._service = node.create_service(Trigger, READY_SERVICE, self._on_ready)
        self._asked = self._ready = False

    def prepare(self, start: EpisodeStart) -> None:
        """Let go, move away, and wait for the person.

        Raises:
            GraphError: there is no arm controller, the arm cannot be moved, or the person did not answer in time.
        """
        self._graph.idle()
        self._await_arm()
        try:
            self._clear_the_scene(start)
            self._await_person(start)
        finally:
            self._notice("")

    def begin(self, start: EpisodeStart) -> int:
        """Return the stamp of the arm's newest state [ns]: nothing is left to do."""
        self._await_arm()
        return self._graph.inputs.arm_stamp_ns

    def _await_arm(self) -> None:
        inputs = self._graph.inputs
        self._connection.wait(
            lambda: inputs.arm is not None, self._answer_timeout, lambda: "arm/state (arm_controller)"
        )

    def _clear_the_scene(self, start: EpisodeStart) -> None:
        """Open the gripper and move the arm away; try again while that is refused."""
        name, deadline = self._settings.configuration, time.monotonic() + self._settings.timeout
        while problem := self._let_go() or self._move_away():
            text = f"episode {start.number}: the arm does not get to {name!r}: {problem}"
            if time.monotonic() >= deadline:
                raise GraphError(text)
            again = time.monotonic() + _RETRY_PERIOD
            self._connection.wait(
                lambda again=again: time.monotonic() >= again,  # type: ignore[misc]
                2.0 * _RETRY_PERIOD,
                lambda text=text: f"{text}; trying again",  # type: ignore[misc]
                notice=self._say,
            )

    def _let_go(self) -> str:
        """Open the gripper as far as an episode begins with, for the person to get what it holds; returns a problem.

        These are steps after the last one of the episode that is over. Before the first episode nothing is known of
        what the gripper holds, and it stays as it is.
        """
        inputs, task = self._graph.inputs, self._graph.task
        if inputs.step == 0 or inputs.arm is None:
            return ""
        action = task.action.rest(task.start.gripper_width)
        for _ in range(max(1, round(_OPENING_TIME / task.control_period))):
            if np.array_equal(self._graph.rest_action, action):
                break
            self._graph.command(action)
        return "the gripper was not opened" if not np.array_equal(self._graph.rest_action, action) else ""

    def _move_away(self) -> str:
        """Move the arm; returns why it is not there, empty if it is."""
        connection, goal = self._connection, MoveTo.Goal(kind=MoveTo.Goal.KIND_NAMED, name=self._settings.configuration)
        connection.wait(
            self._mover.server_is_ready, self._answer_timeout, lambda: "action arm/move_to (arm_controller)"
        )
        sending = self._mover.send_goal_async(goal)
        try:
            connection.wait(sending.done, self._answer_timeout, lambda: "the answer of arm/move_to (arm_controller)")
        except BaseException:
            # Accepted later, it would move the arm with nobody waiting for it.
            sending.add_done_callback(_cancel_accepted)
            raise
        handle = sending.result()
        if not handle.accepted:
            return "the goal was not accepted"
        ending = handle.get_result_async()
        try:
            connection.wait(ending.done, _LONGEST_MOTION, lambda: "the end of arm/move_to (arm_controller)")
        except BaseException:
            handle.cancel_goal_async()
            raise
        result = ending.result().result
        return "" if result.success else f"{result.termination_reason}: {printable(result.message)}"

    def _await_person(self, start: EpisodeStart) -> None:
        self._asked, self._ready = True, False
        try:
            self._connection.wait(
                lambda: self._ready,
                self._settings.timeout,
                lambda: f"a person, who puts everything in place for episode {start.number} and calls {READY_SERVICE}",
                notice=self._say,
                advice="./serl reward label has a key for it",
            )
        finally:
            self._asked = False

    def _on_ready(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success = self._asked
        response.message = "" if self._asked else "no episode waits for a person"
        self._ready = self._asked
        return response

    def _say(self, what: str) -> None:
        log(self._connection.node, INFO, f"waiting for {what}", throttle=_NOTICE_PERIOD)
        self._notice(what)


def _cancel_accepted(sending: Future) -> None:
    """Cancel a goal whose answer came after nobody waited for it any more."""
    handle = sending.result()
    if handle is not None and handle.accepted:
        handle.cancel_goal_async()
