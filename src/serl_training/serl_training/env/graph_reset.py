# SPDX-License-Identifier: Apache-2.0
"""How the arm and its world get to the start of an episode: by the simulator, the arm and a person or a bench, by hand.

A `Reset` is made by a `ResetFactory` for each environment. A third one, for two tasks that undo each other, is in
`graph_turns`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from serl_robots.model.robot import HOME
from serl_ros.incoming import subscribe
from serl_ros.qos import RELIABLE_10
from serl_tasks.messages import MessageError, nanoseconds
from std_srvs.srv import Trigger

from serl_interfaces.msg import TeleopEvent
from serl_interfaces.srv import ResetWorld
from serl_training.env.episode import EpisodeStart
from serl_training.env.graph_arm import ArmBetweenEpisodes, EpisodeGraph
from serl_training.env.graph_connection import GraphError

READY_SERVICE = "episode/ready"


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
        return self._ask(start, keep=False)

    def keep(self, start: EpisodeStart) -> int:
        """Begin the episode where everything is; returns the stamp of its start state [ns].

        Raises:
            GraphError: the simulator is not there or refuses.
        """
        return self._ask(start, keep=True)

    def _ask(self, start: EpisodeStart, *, keep: bool) -> int:
        request = ResetWorld.Request(seed=start.seed, episode=start.number, task=start.task, keep=keep)
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


class AwaitedPerson:
    """A person who says that everything is in place: by `episode/ready`, or by a button that says ready."""

    def __init__(self, graph: EpisodeGraph, patience: float, say: Callable[[str], None]) -> None:
        """Serve `episode/ready`, and hear buttons.

        Args:
            graph: of the episodes.
            patience: longest wait [s].
            say: told a few times a second what is waited for.
        """
        self._connection, self._patience, self._say = graph.connection, patience, say
        node = graph.connection.node
        self._kept = [
            node.create_service(Trigger, READY_SERVICE, self._on_ready),
            subscribe(node, TeleopEvent, "teleop/event", self._on_event, RELIABLE_10, MessageError),
        ]
        self._asked = self._ready = False

    def wait(self, what: Callable[[], str]) -> None:
        """Wait for the person, who is to do what the sentence says.

        Raises:
            GraphError: they did not say so in time.
        """
        self._asked, self._ready = True, False
        try:
            self._connection.wait(
                lambda: self._ready,
                self._patience,
                lambda: f"a person, who {what()} and calls {READY_SERVICE}",
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

    def _on_event(self, message: TeleopEvent) -> None:
        if message.event == TeleopEvent.READY:
            self._ready = self._asked


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
        """Begin to listen for the person.

        Args:
            graph: of the episodes.
            timeout: longest wait for the arm controller's answers [s].
            settings: where the arm moves, how long the person has.
            notice: told a few times a second what is waited for, and "" when that is over.
        """
        self._graph, self._settings, self._notice = graph, settings, notice
        self._arm = ArmBetweenEpisodes(graph, timeout, settings.timeout, notice)
        self._person = AwaitedPerson(graph, settings.timeout, self._arm.say)

    def prepare(self, start: EpisodeStart) -> None:
        """Let go, move away, and wait for the person.

        Raises:
            GraphError: there is no arm controller, the arm cannot be moved, or the person did not answer in time.
        """
        self._graph.idle()
        self._arm.wait_for_state()
        name = self._settings.configuration
        try:
            self._arm.insist(
                lambda: self._arm.let_go() or self._arm.move_to_named(name),
                f"episode {start.number}: the arm does not get to {name!r}",
            )
            self._person.wait(lambda: f"puts everything in place for {named(start)}")
        finally:
            self._notice("")

    def begin(self, start: EpisodeStart) -> int:
        """Return the stamp of the arm's newest state [ns]: nothing is left to do."""
        self._arm.wait_for_state()
        return self._graph.inputs.arm_stamp_ns

    def keep(self, start: EpisodeStart) -> int:
        """Return the stamp of the arm's newest state [ns]: the world stays as it is without a person."""
        return self.begin(start)


class MotionReset:
    """The arm lets go and goes to where the tool starts; then `sim/reset` puts the objects in place, and moves no arm.

    Two arms let go together, and go there one after the other. It is for a bench that places objects by itself: an
    emulated one, or a machine that does it.
    """

    def __init__(
        self,
        graph: EpisodeGraph,
        timeout: float,
        patience: float,
        notice: Callable[[str], None] = lambda _text: None,
    ) -> None:
        """Reset the bench of `graph`.

        Args:
            graph: of the episodes.
            timeout: longest wait for the nodes of the graph [s].
            patience: how long to try again to move the arm [s].
            notice: told a few times a second what is waited for, and "" when that is over.
        """
        self._graph, self._notice = graph, notice
        self._arm = ArmBetweenEpisodes(graph, timeout, patience, notice)
        self._bench = SimulatorReset(graph, timeout)

    def prepare(self, start: EpisodeStart) -> None:
        """Let go, and go to the start; where the tool does not get there, by the robot's configuration `home`.

        Raises:
            GraphError: there is no arm controller, or the arm cannot be moved.
        """
        self._graph.idle()
        self._arm.wait_for_state()
        task, rng = self._graph.task, np.random.default_rng(start.seed)
        poses = {arm: task.start_pose(rng, {}) for arm in task.arm_names}

        def to_start() -> str:
            return next(filter(None, (self._arm.move_to_pose(pose, arm) for arm, pose in poses.items())), "")

        def go() -> str:
            problem = self._arm.let_go() or to_start()
            return problem and (self._arm.move_to_named(HOME) or to_start())

        try:
            self._arm.insist(go, f"{named(start)}: the arm does not get to its start")
        finally:
            self._notice("")

    def begin(self, start: EpisodeStart) -> int:
        """Have the objects put in place; returns the stamp of the start state [ns].

        Raises:
            GraphError: the bench is not there or refuses.
        """
        return self._bench.begin(start)

    def keep(self, start: EpisodeStart) -> int:
        """Begin the episode where everything is; returns the stamp of the start state [ns].

        Raises:
            GraphError: the bench is not there or refuses.
        """
        return self._bench.keep(start)


class HandReset:
    """A person leads or drags the arm to where an episode may begin, puts everything in place, and says ready.

    No episode runs meanwhile, so a device leads the arm as it likes, and nothing moves it by itself. In a simulation
    the objects stay where they are, or are put back by `sim/reset`. The seed of the episode has no meaning here.
    """

    def __init__(
        self,
        graph: EpisodeGraph,
        timeout: float,
        settings: PersonResetSettings = PersonResetSettings(),
        notice: Callable[[str], None] = lambda _text: None,
        *,
        simulated: bool,
    ) -> None:
        """Begin to listen for the person.

        Args:
            graph: of the episodes.
            timeout: longest wait for the nodes of the graph [s].
            settings: how long the person has; the arm's configuration is theirs.
            notice: told a few times a second what is waited for, and "" when that is over.
            simulated: whether a simulator has to be told of the episode.
        """
        self._graph, self._notice = graph, notice
        self._arm = ArmBetweenEpisodes(graph, timeout, settings.timeout, notice)
        self._person = AwaitedPerson(graph, settings.timeout, self._arm.say)
        self._world = SimulatorReset(graph, timeout) if simulated else None

    def prepare(self, start: EpisodeStart) -> None:
        """Wait for the person.

        Raises:
            GraphError: there is no arm controller, or the person did not answer in time.
        """
        self._graph.idle()
        self._arm.wait_for_state()
        try:
            self._person.wait(lambda: f"leads the arm to where {named(start)} begins{self._distance()}")
        finally:
            self._notice("")

    def begin(self, start: EpisodeStart) -> int:
        """Begin the episode where everything is; returns the stamp of the start state [ns].

        Raises:
            GraphError: the simulator is not there or refuses.
        """
        if self._world is not None:
            return self._world.keep(start)
        self._arm.wait_for_state()
        return self._graph.inputs.arm_stamp_ns

    def keep(self, start: EpisodeStart) -> int:
        """Begin where everything is, as `begin` does; returns the stamp of the start state [ns]."""
        return self.begin(start)

    def _distance(self) -> str:
        """How far the tool is from where the task lets episodes begin, in words; empty where it is there."""
        start = self._graph.task.start
        off = np.abs(self._graph.inputs.sample.tcp.position - np.array(start.tcp_position)) - np.array(start.spread)
        distance = float(np.linalg.norm(np.maximum(off, 0.0)))
        return f", {distance:.2f} m from here," if distance >= 0.005 else ""


def named(start: EpisodeStart) -> str:
    """An episode, in words."""
    return f"episode {start.number}" + (f" of {start.task}" if start.task else "")
