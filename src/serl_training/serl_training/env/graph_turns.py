# SPDX-License-Identifier: Apache-2.0
"""Two tasks by turns: where an episode of one has ended the next one begins, and nobody resets the world.

Between two episodes the arm lets go, goes up, and goes to where the next one's tool may start. The world is reset, by
the simulator or a person, only where an object has got out of reach, where somebody asks for it (`episode/place`), or
where there is no other way on; that is counted and said.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import numpy as np
from serl_robots.model.pose import Pose
from serl_ros.log import WARN, log
from serl_tasks.pair import farther, out_of_reach
from std_srvs.srv import Trigger

from serl_training.env.episode import EpisodeLeft, EpisodeLost, EpisodeStart
from serl_training.env.graph_arm import ArmBetweenEpisodes, EpisodeGraph
from serl_training.env.graph_reset import Reset

PLACE_SERVICE = "episode/place"
_INSIDE = 0.002  # [m] that a goal is inside of the box in which the tool may be
_UNPLACED = "nobody has put the objects in place since the actor was started"
_ASKED = f"somebody called {PLACE_SERVICE}"


class WorldReset(Reset, Protocol):
    """A reset that may also leave the world as it is."""

    def keep(self, start: EpisodeStart) -> int:
        """Begin an episode where everything is; returns the stamp of its start state [ns].

        Raises:
            GraphError: that cannot be.
        """


class TurnReset:
    """See the module. Knows whose turn it is, too.

    Attributes:
        resets: episodes for which the world had to be reset.
    """

    def __init__(
        self,
        graph: EpisodeGraph,
        timeout: float,
        world: WorldReset,
        *,
        truth: bool,
        patience: float,
        configuration: str = "home",
        notice: Callable[[str], None] = lambda _text: None,
    ) -> None:
        """Serve `episode/place`.

        Args:
            graph: of the episodes, which are of two tasks.
            timeout: longest wait for the arm controller's answers [s].
            world: what resets the world when it has to be.
            truth: whether the true poses of the objects are known. If not, the first episode begins with a reset.
            patience: how long to try again to move an arm that is stopped or led [s].
            configuration: of the robot, to which the joints lead an arm whose tool cannot go up.
            notice: told a few times a second what is waited for, and "" when that is over.
        """
        self.resets = 0
        self.is_interruptible = False
        """Whether `EpisodeLeft` may end what goes on, to be tried again: a person who pauses wants it to stop."""
        self._graph, self._timeout, self._world, self._truth, self._notice = graph, timeout, world, truth, notice
        self._arm, self._configuration = ArmBetweenEpisodes(graph, timeout, patience, notice), configuration
        self._because = "" if truth else _UNPLACED
        self._is_clear = self._is_placing = False
        self._service = graph.connection.node.create_service(Trigger, PLACE_SERVICE, self._on_place)

    # Whose turn it is

    def first(self) -> str:
        """The task that has farther to go, by its name; where nobody knows the objects, the first of the two.

        Raises:
            GraphError: nobody tells the truth in time.
        """
        if not self._truth:
            return next(iter(self._graph.tasks))
        inputs = self._graph.inputs
        self._graph.connection.wait(lambda: bool(inputs.objects), self._timeout, lambda: "truth (mujoco_bridge)")
        return farther(list(self._graph.tasks.values()), inputs.objects).name

    def after(self, task: str, success: bool) -> str:
        """The task whose turn it is after an episode, by its name; the arm lets go and goes up.

        Where the objects are known it is the task that has farther to go. Otherwise it is the other one after a
        success, and the same one again after a failure.

        Args:
            task: name of the one that the episode was of.
            success: whether it succeeded.
        """
        try:
            with self._interruptible():
                self._clear()
        except EpisodeLeft:  # a person paused: the next episode lets go and goes up
            pass
        except EpisodeLost as error:  # then the next episode begins with a reset
            self._because = self._because or str(error)
        if self._truth:
            return self.first()
        return next(name for name in self._graph.tasks if name != task) if success else task

    # Reset

    def prepare(self, start: EpisodeStart) -> None:
        """Bring the arm to where the tool may start, or have the world reset.

        Raises:
            GraphError: the arm cannot be moved, or the person did not answer in time.
        """
        if not self._because and not self._lost():
            try:
                with self._interruptible():
                    self._clear()
                    self._go_to_start(start)
            except EpisodeLeft:  # a person paused: whoever goes on tries again
                raise
            except EpisodeLost as error:
                self._because = str(error)
        self._because = self._because or self._lost()
        # Asked for from now on, a reset is for the episode after this one.
        self._is_placing = bool(self._because)
        if self._is_placing:
            self._count(start)
            with self._interruptible():
                self._world.prepare(start)

    def begin(self, start: EpisodeStart) -> int:
        """Begin the episode where everything is, or have the world reset; returns the stamp of the start state [ns].

        Raises:
            GraphError: the simulator or the arm controller did not answer.
        """
        self._is_clear = False
        if not self._is_placing:
            return self._world.keep(start)
        stamp_ns = self._world.begin(start)
        self._because = ""
        return stamp_ns

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        self.is_interruptible = True
        try:
            yield
        finally:
            self.is_interruptible = False

    def _lost(self) -> str:
        """Why nobody can go on from here, as far as that is known."""
        inputs = self._graph.inputs
        return inputs.problem or (out_of_reach(self._graph.task, inputs.objects) if inputs.objects else "")

    def _count(self, start: EpisodeStart) -> None:
        self.resets += 1
        text = f"episode {start.number} of {start.task} begins with a reset, the {self.resets}. of this actor"
        log(self._graph.connection.node, WARN, f"{text}: {self._because}")

    def _clear(self) -> None:
        """Let go and go up, once for each episode."""
        if self._is_clear:
            return
        self._graph.idle()
        self._arm.wait_for_state()
        try:
            self._arm.insist(lambda: self._arm.let_go() or self._leave(), "the arm does not leave what it held")
        finally:
            self._notice("")
        self._is_clear = True

    def _leave(self) -> str:
        """Go up; where the tool cannot, as when the arm has got stuck far out, the joints lead to where it can."""
        return self._go_up() and self._arm.move_to_named(self._configuration)

    def _go_up(self) -> str:
        task, tool = self._graph.task, self._graph.inputs.sample.tcp.position
        height, limits = float(task.middle_start.position[2]), task.limits
        if tool[2] >= height:
            return ""
        # Measured at the edge of the box, it may be a little outside of it.
        low, high = np.array(limits.workspace_min) + _INSIDE, np.array(limits.workspace_max) - _INSIDE
        goal = np.clip((tool[0], tool[1], height), low, high)
        return self._arm.move_to_pose(Pose(goal, limits.reference_orientation))

    def _go_to_start(self, start: EpisodeStart) -> None:
        pose = self._graph.task.start_pose(np.random.default_rng(start.seed), {})
        try:
            self._arm.insist(lambda: self._arm.move_to_pose(pose), f"episode {start.number}: the arm does not start")
        finally:
            self._notice("")

    def _on_place(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._because = self._because or _ASKED
        response.success, response.message = True, "the next episode begins with a reset"
        return response
