# SPDX-License-Identifier: Apache-2.0
"""Goals of the actor's actions, one at a time, from acceptance to result."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rclpy.action import CancelResponse, GoalResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.node import Node
from serl_config.text import printable
from serl_rl.storage.demonstrations import DemonstrationError
from serl_ros.action_server import GuardedActionServer
from serl_ros.diagnostics import ERROR, OK, Diagnostics
from serl_ros.execution.faults import report_fault
from serl_ros.log import ERROR as LOG_ERROR
from serl_ros.log import WARN as LOG_WARN
from serl_ros.log import log
from std_srvs.srv import Trigger

from serl_training.actor.job import Cancelled
from serl_training.env.episode import EpisodeLost
from serl_training.link.graph_id import belong_together, mismatch
from serl_training.link.learner_link import JobFailed

JOB = "job"
"""Name of the service that says what is done, or why the last goal was refused; no success: it was so for good."""
_FEEDBACK_PERIOD = 0.5  # [s]
_RESULT_TIMEOUT = 86400  # [s] that a result can be asked for: a laptop sleeps, and simulated time runs fast


@dataclass(frozen=True)
class _Job:
    """An accepted goal and what to do for it."""

    goal: ServerGoalHandle
    work: Callable[[ServerGoalHandle], Any]
    failed: Callable[[str, str], Any]
    """Makes the result of a goal that ended early from termination reason and message."""


class JobServer:
    """Serves actions whose goals are done one at a time; what is asked for meanwhile is refused."""

    def __init__(
        self, node: Node, diagnostics: Diagnostics, graph_id: str, finished: Callable[[], None], task: str = ""
    ) -> None:
        """Serve nothing yet.

        Args:
            node: that serves.
            diagnostics: of the node, which get a status `job`.
            graph_id: of the graph; goals for another one are refused. Empty: takes all.
            finished: called after each job, however it ended.
            task: that is learned; goals for another one are refused. Empty: takes all.
        """
        self._node, self._diagnostics, self._graph_id, self._finished = node, diagnostics, graph_id, finished
        self._task = task
        self._stop = threading.Event()
        self._servers: list[GuardedActionServer] = []
        self._waiting: _Job | None = None
        self._running: _Job | None = None
        self._feedback_message: Any = None
        self._awaited = ""
        self._feedback_time = 0.0
        self._refusal, self._refused_for_good = "", False
        node.create_service(Trigger, JOB, self._say)
        diagnostics.set("job", OK, "idle")

    def serve(self, action: Any, name: str, work: Callable[[ServerGoalHandle], Any]) -> None:
        """Serve an action.

        Args:
            action: its type, whose result has ``success``, ``termination_reason`` and ``message``.
            name: of the action.
            work: does what a goal asks for and returns the result. What it raises ends the job with the reason.
        """

        def accepted(goal: ServerGoalHandle) -> None:
            def failed(reason: str, message: str) -> Any:
                return action.Result(success=False, termination_reason=reason, message=message)

            self._waiting = _Job(goal, work, failed)

        server = GuardedActionServer(
            self._node,
            action,
            name,
            execute_callback=lambda _goal: action.Result(),
            goal_callback=lambda goal: self._admit(name, getattr(goal, "graph_id", ""), getattr(goal, "task", "")),
            handle_accepted_callback=accepted,
            cancel_callback=lambda _goal: CancelResponse.ACCEPT,
            result_timeout=_RESULT_TIMEOUT,
        )
        self._servers.append(server)

    def run_next(self, stop: threading.Event) -> None:
        """Do the job that was accepted, if one was; once `stop` is set it is cancelled."""
        job, self._waiting = self._waiting, None
        if job is not None:
            self._stop = stop
            self._run(job)

    def check(self) -> None:
        """Look whether the running job may go on; tell its client again how far it is.

        Raises:
            Cancelled: its goal was cancelled, or the process is asked to end.
        """
        if self._stop.is_set():
            raise Cancelled
        job = self._running
        if job is None:
            return
        if job.goal.is_cancel_requested:
            raise Cancelled
        now = time.monotonic()
        if self._feedback_message is not None and now - self._feedback_time >= _FEEDBACK_PERIOD:
            self._feedback_time = now
            job.goal.publish_feedback(self._feedback_message)

    def feedback(self, message: Any, *, now: bool = False) -> None:
        """Set the feedback of the running job, which is repeated while the job lives; raises as `check`."""
        message.waiting = self._awaited
        self._feedback_message = message
        if now:
            self._feedback_time = 0.0
        self.check()

    def await_person(self, what: str) -> None:
        """Say with the feedback what a person is waited for; empty: for nothing."""
        if what == self._awaited:
            return
        self._awaited = what
        if self._feedback_message is not None:
            self._feedback_message.waiting, self._feedback_time = what, 0.0

    def _admit(self, name: str, graph_id: str, task: str) -> GoalResponse:
        why, for_good = "", True
        if not belong_together(graph_id, self._graph_id):
            why = f"the goal is for {mismatch(printable(graph_id, 80), self._graph_id)}"
        elif task and self._task and task != self._task:
            why = f"the goal is for the task {printable(task, 80)!r}, this actor does {self._task!r}"
        elif self._running is not None or self._waiting is not None:
            why, for_good = "another job is running; cancel it first", False
        self._refusal, self._refused_for_good = f"{name}: refused, {why}" if why else "", bool(why) and for_good
        if why:
            log(self._node, LOG_WARN, self._refusal, throttle=1.0)
            return GoalResponse.REJECT
        return GoalResponse.ACCEPT

    def _say(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        busy = "running" if self._running is not None or self._waiting is not None else "idle"
        response.success, response.message = not self._refused_for_good, self._refusal or busy
        return response

    def _run(self, job: _Job) -> None:
        self._running = job
        self._diagnostics.set("job", OK, "running")
        outcome = "abort"
        try:
            result = job.work(job.goal)
            outcome = "succeed"
            self._diagnostics.set("job", OK, "idle")
        except Cancelled:
            result = job.failed("canceled", "canceled")
            outcome = "canceled" if job.goal.is_cancel_requested else "abort"
            self._diagnostics.set("job", OK, "idle; the last job was canceled")
        except (JobFailed, EpisodeLost, DemonstrationError, ValueError, OSError) as error:
            result = self._failed(job, error)
        except Exception as error:  # noqa: BLE001 - a goal or a message that nobody foresaw ends a job, not the actor
            report_fault(self._node, "job", error)
            result = self._failed(job, error)
        finally:
            self._running = self._feedback_message = None
            self._awaited = ""
            self._finished()

        def finish(goal: ServerGoalHandle) -> Any:
            getattr(goal, outcome)()
            return result

        job.goal.execute(finish)

    def _failed(self, job: _Job, error: Exception) -> Any:
        text = printable(error)
        log(self._node, LOG_ERROR, text)
        self._diagnostics.set("job", ERROR, text)
        return job.failed("failed", text)
