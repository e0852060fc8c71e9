# SPDX-License-Identifier: Apache-2.0
"""One goal at the actor of one arm, asked again and again what became of it; nothing here waits."""

from __future__ import annotations

import time
import uuid
from typing import Any

from action_msgs.msg import GoalStatus
from rclpy.action import ActionClient
from rclpy.action.client import ClientGoalHandle
from unique_identifier_msgs.msg import UUID

_ANSWER = 2.0  # [s] after which a goal without an answer is sent again
_PATIENCE = 10.0  # [s] in which a goal must be answered
_ASK_AGAIN = 2.0  # [s] of silence after which the result is asked for again
_SILENCE = 6.0  # [s] without feedback, which comes twice a second, after which the actor is taken for dead


_CANCEL_AGAIN = 1.0  # [s] between requests to leave a goal


class ArmGone(Exception):
    """The actor has not taken the goal, or is gone with it; says how.

    Attributes:
        knows_it: whether the actor may have the goal, and go on with it.
        refused: whether it is there, and said no.
    """

    def __init__(self, how: str, *, knows_it: bool = True, refused: bool = False) -> None:
        """Say how."""
        super().__init__(how)
        self.knows_it, self.refused = knows_it, refused


class RemoteJob:
    """A goal, from sending it to its result.

    Attributes:
        feedback: the newest; None before the first.
    """

    def __init__(self, client: ActionClient, goal: Any) -> None:
        """Send `goal` with `client`."""
        self._client, self._goal = client, goal
        self._id = UUID(uuid=list(uuid.uuid4().bytes))
        self._began = self._heard = self._asked_at = time.monotonic()
        self._answers: list[Any] = []
        self._results: list[Any] = []
        self._handle: ClientGoalHandle | None = None
        self._is_cancelled, self._cancel_at = False, 0.0
        self.feedback: Any = None
        self._send()

    @property
    def waiting(self) -> str:
        """What the actor says that it waits for; empty: for nothing."""
        return self.feedback.waiting if self.feedback is not None else ""

    @property
    def is_accepted(self) -> bool:
        """Whether the actor has taken the goal."""
        return self._handle is not None and bool(self._handle.accepted)

    def poll(self) -> Any:
        """The result, or None while there is none.

        Raises:
            ArmGone: the actor refuses the goal, does not answer, has fallen silent, or does not know it any more.
        """
        now = time.monotonic()
        if self._handle is None:
            self._take_answer(now)
            return None
        if self._is_cancelled and now >= self._cancel_at:
            self._cancel(now)
        for future in self._results:
            if future.done():
                response = future.result()
                if response.status == GoalStatus.STATUS_UNKNOWN:
                    raise ArmGone("was started anew", knows_it=False)
                return response.result
        if now - self._heard > _SILENCE:
            raise ArmGone(f"has not been heard for {_SILENCE:.0f} s")
        if now - max(self._heard, self._asked_at) > _ASK_AGAIN:
            self._ask(now)
        return None

    def cancel(self) -> None:
        """Ask the actor to leave it, as soon as it has taken it, and again with `poll` until there is a result."""
        self._is_cancelled = True
        if self._handle is not None:
            self._cancel(time.monotonic())

    def _cancel(self, now: float) -> None:
        assert self._handle is not None
        self._cancel_at = now + _CANCEL_AGAIN
        self._handle.cancel_goal_async()

    def _send(self) -> None:
        self._answers.append(self._client.send_goal_async(self._goal, self._on_feedback, self._id))

    def _take_answer(self, now: float) -> None:
        for future in self._answers:
            if future.done():
                self._handle = future.result()
                if not self._handle.accepted:
                    # Of a fleet node that was killed its actors have jobs yet, which end by themselves.
                    raise ArmGone("refused the goal", knows_it=False, refused=True)
                self._heard = now
                if self._is_cancelled:
                    self._cancel(now)
                self._ask(now)
                return
        if now - self._began > _PATIENCE:
            raise ArmGone(f"has not answered for {_PATIENCE:.0f} s")
        if now - self._began > _ANSWER * len(self._answers):
            self._send()

    def _ask(self, now: float) -> None:
        assert self._handle is not None
        self._asked_at = now
        self._results.append(self._handle.get_result_async())

    def _on_feedback(self, message: Any) -> None:
        self._heard, self.feedback = time.monotonic(), message.feedback
