# SPDX-License-Identifier: Apache-2.0
"""What a person says of the episodes of an actor: pause, go on, discard, rewind; by services, and by buttons."""

from __future__ import annotations

from typing import Any

from rclpy.node import Node
from serl_ros.log import INFO, log
from serl_ros.qos import RELIABLE_10
from std_srvs.srv import SetBool, Trigger

from serl_interfaces.msg import TeleopEvent
from serl_ros import diagnostics
from serl_training.env.episode import EpisodeDiscarded, EpisodeLeft


class GraphPerson:
    """Serves `episode/pause`, `episode/discard` and `episode/rewind`, and hears the same of buttons on `teleop/event`.

    A pause leaves the running episode at once, rather than after it: whoever pauses wants to reach into the workspace.
    It lasts until it is taken back, over the end of a job; the status `pause` on `/diagnostics` says so.
    """

    def __init__(self, node: Node, rewind_steps: int = 1) -> None:
        """Connect; a rewind takes back the newest `rewind_steps` of an episode."""
        self._node, self._rewind_steps = node, rewind_steps
        self.paused = False
        """Whether a person wants no episode to run."""
        self._runs = False
        self._left: EpisodeLeft | None = None  # why the running episode is to be left
        self._kept: list[Any] = [
            node.create_service(SetBool, "episode/pause", self._on_pause),
            node.create_service(Trigger, "episode/discard", self._on_discard),
            node.create_service(Trigger, "episode/rewind", self._on_rewind),
            node.create_subscription(TeleopEvent, "teleop/event", self._on_event, RELIABLE_10),
        ]

    def begin(self) -> None:
        """An episode begins: what was said of the one before is over."""
        self._runs, self._left = True, None

    def end(self) -> None:
        """No episode runs."""
        self._runs, self._left = False, None

    def end_by_itself(self) -> None:
        """The episode has ended; what is said from now on is not about it.

        Raises:
            EpisodeDiscarded: a person discarded it, or its end, in its last step, and was told that it is left.
        """
        left = self._left
        self.end()
        if isinstance(left, EpisodeDiscarded):
            raise left

    def check(self) -> None:
        """Look whether the episode goes on.

        Raises:
            EpisodeLeft: a person does not want it to.
        """
        left, self._left = self._left, None
        if left is not None:
            raise left

    def _pause(self, wanted: bool) -> str:
        self.paused = wanted
        if wanted and self._runs and self._left is None:
            self._left = EpisodeLeft("a person paused")
        said = "paused" if wanted else "going on"
        log(self._node, INFO, f"a person said: {said}")
        if (status := diagnostics.of(self._node)) is not None:
            status.set("pause", diagnostics.OK, said)
        return said

    def _discard(self, steps: int | None = None) -> bool:
        """The running episode is left, and its newest steps are void, more than were before; None: all of them."""
        if self._runs:
            if isinstance(self._left, EpisodeDiscarded) and steps is not None:
                before = self._left.steps
                steps = None if before is None else before + steps
            what = "it" if steps is None else f"its newest {steps} steps"
            self._left = EpisodeDiscarded(f"a person discarded {what}", steps)
        return self._runs

    def _on_pause(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        response.success, response.message = True, self._pause(request.data)
        return response

    def _on_discard(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success = self._discard()
        response.message = "the episode is left" if response.success else "no episode is running"
        return response

    def _on_rewind(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success = self._discard(self._rewind_steps)
        response.message = f"{self._left}, and the episode is left" if response.success else "no episode is running"
        return response

    def _on_event(self, message: TeleopEvent) -> None:
        match message.event:
            case TeleopEvent.DISCARD:
                self._discard()
            case TeleopEvent.REWIND:
                self._discard(self._rewind_steps)
            case TeleopEvent.PAUSE:
                self._pause(not self.paused)
