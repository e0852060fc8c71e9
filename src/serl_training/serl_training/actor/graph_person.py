# SPDX-License-Identifier: Apache-2.0
"""What a person says to the actor while it works: wait, go on, forget this episode."""

from rclpy.node import Node
from serl_ros.log import INFO, log
from serl_ros.qos import RELIABLE_10
from std_srvs.srv import SetBool, Trigger

from serl_interfaces.msg import TeleopEvent
from serl_training.env.episode import EpisodeLeft

_DISCARDED = "a person discarded it"


class GraphPerson:
    """Serves `episode/pause` and `episode/discard`, and hears the same of buttons on `teleop/event`.

    A pause leaves the running episode at once, rather than after it: whoever pauses wants to reach into the workspace.
    It lasts until it is taken back, over the end of a job.
    """

    def __init__(self, node: Node) -> None:
        """Connect."""
        self._node = node
        self.paused = False
        """Whether a person wants no episode to run."""
        self._runs = False
        self._left = ""  # why the running episode is to be left
        self._kept = [
            node.create_service(SetBool, "episode/pause", self._on_pause),
            node.create_service(Trigger, "episode/discard", self._on_discard),
            node.create_subscription(TeleopEvent, "teleop/event", self._on_event, RELIABLE_10),
        ]

    def begin(self) -> None:
        """An episode begins: what was said of the one before is over."""
        self._runs, self._left = True, ""

    def end(self) -> None:
        """No episode runs."""
        self._runs, self._left = False, ""

    def end_by_itself(self) -> None:
        """The episode has ended; what is said from now on is not about it.

        Raises:
            EpisodeLeft: a person discarded it in its last step, and was told that it is left.
        """
        discarded = self._left == _DISCARDED
        self.end()
        if discarded:
            raise EpisodeLeft(_DISCARDED)

    def check(self) -> None:
        """Look whether the episode goes on.

        Raises:
            EpisodeLeft: a person does not want it to.
        """
        if self._left:
            reason, self._left = self._left, ""
            raise EpisodeLeft(reason)

    def _on_pause(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self.paused = request.data
        if self.paused and self._runs:
            self._left = "a person paused"
        response.success = True
        response.message = "paused" if self.paused else "going on"
        log(self._node, INFO, f"a person said: {response.message}")
        return response

    def _on_discard(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success = self._discard()
        response.message = "the episode is left" if response.success else "no episode is running"
        return response

    def _on_event(self, message: TeleopEvent) -> None:
        if message.event == TeleopEvent.DISCARD:
            self._discard()

    def _discard(self) -> bool:
        if self._runs:
            self._left = _DISCARDED
        return self._runs
