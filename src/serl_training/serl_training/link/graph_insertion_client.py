# SPDX-License-Identifier: Apache-2.0
"""The sending end of the service `learner/insert`: the chunks of one session, in order, until they are acknowledged."""

from __future__ import annotations

import time
import uuid
from array import array
from typing import Any

from rclpy.client import Client
from rclpy.node import Node
from serl_config.software import software
from serl_config.text import printable
from serl_rl.spec import TransitionSpec
from serl_ros.log import WARN, log

from serl_interfaces.srv import InsertTransitions
from serl_training.link.insertion_window import InsertionError, InsertionWindow
from serl_training.link.learner_link import JobFailed, LearnerTotals

_REPLY_TIMEOUT = 3.0  # [s] after which a chunk is sent again
_RETRY_PERIOD = 1.0  # [s] after which what could not be stored is sent again
_NOTICE_PERIOD = 5.0  # [s] between log lines about something that is waited for


class InsertionClient:
    """Sends chunks of one actor's session. Nothing here waits; `pump` is called again and again.

    Attributes:
        session: identifier of the session.
        stored: what the learner said last that it has, over all actors.
        connected: whether it has answered since it was asked; may be set to False to ask again.
    """

    def __init__(
        self,
        node: Node,
        client: Client,
        *,
        actor_id: str,
        graph_id: str = "",
        spec: TransitionSpec | None = None,
        session: str = "",
        sequence: int = 0,
    ) -> None:
        """Begin a session, or go on with one.

        Args:
            node: that sends.
            client: of the service.
            actor_id: of the transitions.
            graph_id: of the graph, empty for any.
            spec: of the transitions, which a learner with another one refuses; None: it is not told.
            session: that is gone on with; empty: a new one.
            sequence: number of the next transition of a session that is gone on with. What is added again of what
                the learner has stored behind it is not stored twice.
        """
        self._node, self._client = node, client
        self._actor_id, self._graph_id = actor_id, graph_id
        self._specification = spec.to_json() if spec is not None else ""
        self._asked = ""  # session of the learner that was asked last
        self._introduced = False  # whether the learner knows what we are; another one that takes its place does not
        self._learner_software = ""
        self._heard = time.monotonic()
        self._replies: list[tuple[float, Any]] = []
        self._retry_at = 0.0
        self.stored = LearnerTotals()
        self.connected = False
        self.begin(session, sequence)

    def begin(self, session: str = "", sequence: int = 0) -> None:
        """Begin another session; what is not acknowledged of this one is given up."""
        self.session = session or uuid.uuid4().hex
        self._window = InsertionWindow(begin=sequence)

    @property
    def backlog(self) -> int:
        """Transitions that are not acknowledged."""
        return self._window.backlog

    @property
    def sequence(self) -> int:
        """Transitions added to this session so far, with those that it began behind."""
        return self._window.next_sequence

    @property
    def acknowledged(self) -> int:
        """Transitions of this session that the learner has stored."""
        return self._window.next_sequence - self._window.backlog

    @property
    def silence(self) -> float:
        """Seconds for which nothing was heard of the learner although it has something to answer, or is not there."""
        return time.monotonic() - self._heard

    def hear(self) -> None:
        """Take note of a sign of the learner that came on another way."""
        self._heard = time.monotonic()

    def add(self, count: int, data: bytes) -> None:
        """Append an encoded chunk of `count` transitions, or a tombstone, which counts as one."""
        self._window.add(count, data)

    def ask(self) -> bool:
        """Ask for the totals once; True when they are known."""
        if not self.connected and not self._replies and self._client.service_is_ready():
            request = self._request()
            self._replies.append((time.monotonic() + _REPLY_TIMEOUT, self._client.call_async(request)))
        return self.connected

    def ask_each(self, session: str) -> bool:
        """Ask for the totals, once of each learner: what one was told ends with it.

        Args:
            session: of the learner whose policy is the newest.

        Returns:
            True when they are known.
        """
        if session != self._asked:
            self._asked, self.connected = session, False
        return self.ask()

    def pump(self) -> None:
        """Take replies, send what may be sent, send again what got lost.

        Raises:
            JobFailed: the learner refuses what was sent; it is given up, and another session has begun.
        """
        self._take_replies()
        if not self._window.backlog and self._client.service_is_ready():
            self.hear()
        if not self._client.service_is_ready() or time.monotonic() < self._retry_at:
            return
        for chunk in self._window.to_send():
            request = self._request()
            request.first_sequence, request.count = chunk.first_sequence, chunk.count
            request.data = array("B", chunk.data)
            self._replies.append((time.monotonic() + _REPLY_TIMEOUT, self._client.call_async(request)))

    def resend(self) -> None:
        """Send everything again that is not acknowledged: it was lost, or the learner was restarted."""
        for _, future in self._replies:
            self._client.remove_pending_request(future)
        self._replies.clear()
        self._introduced = False
        self._window.resend()

    def _request(self) -> InsertTransitions.Request:
        request = InsertTransitions.Request(actor_id=self._actor_id, session_id=self.session, graph_id=self._graph_id)
        if not self._introduced:
            request.specification, request.software = self._specification, software()
        return request

    def _take_replies(self) -> None:
        now = time.monotonic()
        while self._replies:
            deadline, future = self._replies[0]
            if future.done():
                self._replies.pop(0)
                self._on_reply(future.result())
            elif now > deadline:
                log(self._node, WARN, f"{self._client.srv_name}: no answer for {_REPLY_TIMEOUT} s; sending again")
                self.resend()
            else:
                return

    def _on_reply(self, reply: InsertTransitions.Response) -> None:
        self.hear()
        if not reply.success and reply.retry:
            self._node.get_logger().error(
                f"transitions are kept until the learner can store them: {reply.message}",
                throttle_duration_sec=_NOTICE_PERIOD,
            )
            self._retry_at = time.monotonic() + _RETRY_PERIOD
            self.resend()
            return
        if not reply.success:
            # It would be refused for ever, and all behind it: what is not stored is given up, the next job begins anew.
            lost, message = self._window.backlog, reply.message
            self.resend()
            self.begin()
            raise JobFailed(f"the learner refused transitions, {lost} are given up: {message}")
        try:
            self._window.acknowledge(reply.next_expected)
        except InsertionError as error:
            raise JobFailed(str(error)) from error
        self.connected = self._introduced = True
        self._compare_software(reply.software)
        self.stored = LearnerTotals(reply.env_steps, reply.demonstrations, reply.episodes)
        if reply.message:  # a gap: something before it got lost
            self.resend()

    def _compare_software(self, learner: str) -> None:
        if learner == self._learner_software:
            return
        self._learner_software = learner
        if learner and learner != software():
            text = f"the learner runs SERL {printable(learner, 80)}, this actor {software()}; have both run the same"
            log(self._node, WARN, f"{self._client.srv_name}: {text}")
