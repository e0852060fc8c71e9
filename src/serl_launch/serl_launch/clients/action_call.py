# SPDX-License-Identifier: Apache-2.0
"""One goal of an action, from sending it to its result, whatever is stopped or cut off meanwhile."""

import math
import time
import uuid
from collections.abc import Callable
from typing import Any

from action_msgs.msg import GoalStatus
from rclpy.action import ActionClient
from rclpy.action.client import ClientGoalHandle
from serl_config.text import printable
from std_srvs.srv import Trigger
from unique_identifier_msgs.msg import UUID

from serl_launch.clients.client_node import Client
from serl_launch.errors import CommandError

ACCEPT_TIMEOUT = 60.0  # [s] until a goal is accepted or not
_ANSWER = 3.0  # [s] after which a goal without an answer is sent again
_SILENCE = 3.0  # [s] without feedback, after which requests may have got lost: sooner than a lost peer is forgotten
_ASK_AGAIN = 4.0  # [s] between requests for the result while they may get lost
_LOST = 15.0  # [s] of silence after which a client gives up on being found again by the other side
_JOB = "job"  # service of a node that does jobs, which says why it refused one
_JOB_FOUND = 1.0  # [s] in which it is found
_UNKNOWN = "see the log of its node"
_NOTICE = 10.0  # [s] of silence that a person is told of, again and again


def new_goal_id() -> UUID:
    """An identifier under which a goal can be sent again without being carried out twice."""
    return UUID(uuid=list(uuid.uuid4().bytes))


class GoalLost(Exception):
    """Whoever offers the action does not know the goal: its node was started anew."""


class ContactLost(Exception):
    """The goal was accepted, and nothing is heard any more: a new client, which is found anew, should ask for it."""


class ActionCall:
    """One goal, from sending it to its result.

    A peer without contact is forgotten after some seconds, and with it what was asked and answered. So whatever has no
    answer is asked again: the goal under the same identifier, which is never carried out twice, and its result.
    """

    def __init__(
        self,
        client: Client,
        action_type: type,
        name: str,
        *,
        goal_id: UUID | None = None,
        report: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Looks for the action.

        Args:
            client: that asks.
            action_type: of the action.
            name: relative name of the action.
            goal_id: of the goal; to be kept where it is sent again with another client. None: a new one.
            report: takes lines about what is waited for.
        """
        self._client = client
        self._action = ActionClient(client.node, action_type, name)
        self._name = name
        self._goal_id = goal_id or new_goal_id()
        self._report = report

    @property
    def name(self) -> str:
        """Name of the action as the graph knows it."""
        return self._client.node.resolve_service_name(self._name)

    def server_is_ready(self) -> bool:
        """Whether somebody offers the action."""
        return self._action.server_is_ready()

    def run(
        self,
        goal: Any,
        *,
        on_feedback: Callable[[Any], None],
        tick: Callable[[], None],
        accept_timeout: float = ACCEPT_TIMEOUT,
    ) -> Any:
        """Sends the goal and waits for its result, however long that takes.

        Args:
            goal: message of the action's Goal type.
            on_feedback: called with each feedback message.
            tick: called at least ten times a second; what it raises ends the wait.
            accept_timeout: longest time until the goal is accepted or not [s]; infinite for one that was before.

        Raises:
            GoalLost: the goal was accepted, and is not known any more.
            ContactLost: the goal was accepted, and nothing is heard any more.
            CommandError: the goal was refused or not answered.
        """
        contact = _Contact()

        def feedback(message: Any) -> None:
            contact.heard()
            on_feedback(message.feedback)

        handle = self._deliver(goal, feedback, tick, accept_timeout)
        response = self._result(handle, contact, tick)
        if response.status != GoalStatus.STATUS_UNKNOWN:
            return response.result
        if handle.accepted or math.isinf(accept_timeout):
            raise GoalLost
        others = self._client.node.count_publishers(f"{self.name}/_action/feedback") - 1
        also = f"; {others} more nodes offer it, end those of other graphs" if others > 0 else ""
        raise CommandError(f"the action {self.name} refused the goal: {self._why(tick) or _UNKNOWN}{also}")

    def _why(self, tick: Callable[[], None]) -> str:
        """Why the goal was refused, as its node says; empty where it does not."""
        node = self._client.node
        asking = node.create_client(Trigger, "".join(self._name.rpartition("/")[:2]) + _JOB)
        try:
            if not self._client.spin_until(asking.service_is_ready, _JOB_FOUND, tick):
                return ""
            answer = asking.call_async(Trigger.Request())
            said = self._client.spin_until(answer.done, _ANSWER, tick) and answer.result().message
            return printable(said or "").removeprefix(f"{self._name}: refused, ")
        finally:
            node.destroy_client(asking)

    def _deliver(
        self, goal: Any, feedback: Callable[[Any], None], tick: Callable[[], None], timeout: float
    ) -> ClientGoalHandle:
        """The answer to the goal. One that says no may be to a repetition: then the result is there to be asked for."""
        deadline = time.monotonic() + timeout
        sent: list[Any] = []
        while time.monotonic() < deadline:
            if self.server_is_ready():
                sent.append(self._action.send_goal_async(goal, feedback_callback=feedback, goal_uuid=self._goal_id))
            if self._client.spin_until(lambda: any(future.done() for future in sent), _ANSWER, tick):
                return next(future.result() for future in sent if future.done())
            self._report(f"no answer to the goal of the action {self.name}; sending it again")
        raise CommandError(f"no answer to the goal of the action {self.name} within {timeout:.0f} s")

    def _result(self, handle: ClientGoalHandle, contact: "_Contact", tick: Callable[[], None]) -> Any:
        asked = [handle.get_result_async()]
        asked_at = time.monotonic()

        def watch() -> None:
            nonlocal asked_at
            tick()
            now = time.monotonic()
            if contact.in_doubt(now) and now - asked_at >= _ASK_AGAIN and self.server_is_ready():
                asked.append(handle.get_result_async())
                asked_at = now
            if contact.silence(now) > _LOST:
                raise ContactLost
            if contact.notice_is_due(now):
                there = "" if self.server_is_ready() else ", which nobody offers now"
                self._report(
                    f"nothing heard from the action {self.name}{there} for {contact.silence(now):.0f} s; waiting"
                )

        self._client.spin_until(lambda: any(future.done() for future in asked), math.inf, watch)
        return next(future.result() for future in asked if future.done())


class _Contact:
    """When something was heard from the other side, and whether requests may have got lost."""

    def __init__(self) -> None:
        self._heard_at = self._noticed_at = time.monotonic()
        self._doubt_until = 0.0

    def heard(self) -> None:
        """Something came in; after a silence each side needs a moment to know all of the other again."""
        now = time.monotonic()
        if self.silence(now) > _SILENCE:
            self._doubt_until = now + 3 * _ASK_AGAIN
        self._heard_at = self._noticed_at = now

    def silence(self, now: float) -> float:
        """Since when nothing was heard [s]."""
        return now - self._heard_at

    def in_doubt(self, now: float) -> bool:
        """Whether what was asked may have got lost."""
        return now < self._doubt_until or self.silence(now) > _SILENCE

    def notice_is_due(self, now: float) -> bool:
        """Whether the silence lasts for so long that a person wants to know."""
        due = now - self._noticed_at >= _NOTICE
        if due:
            self._noticed_at = now
        return due
