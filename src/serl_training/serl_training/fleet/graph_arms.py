# SPDX-License-Identifier: Apache-2.0
"""The arms of a fleet as they are in the graph: who is there, and what each of them does of a work."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from rclpy.action import ActionClient
from rclpy.client import Client
from rclpy.node import Node
from serl_config.text import printable
from serl_ros.execution.executor import FastExecutor
from serl_ros.log import ERROR, INFO, WARN, log
from std_srvs.srv import Trigger

from serl_interfaces.action import Evaluate, Record, Train
from serl_training.actor.graph_job_server import JOB
from serl_training.fleet.graph_remote_job import ArmGone, RemoteJob
from serl_training.fleet.work import Work
from serl_training.link.learner_link import JobFailed

_ACTIONS = {"train": Train, "evaluate": Evaluate, "record": Record}
ARMS = "fleet/arms"
"""Name of the service that says which arms a fleet has."""
_MARK = "/train/_action/send_goal"
_LOOK = 0.5  # [s] between looks at who is there
_TURN = 0.05  # [s]
_NOTICE = 5.0  # [s] between log lines about something that is waited for
_PAUSE = 2.0  # [s] for which an arm that refused or went away is left alone
_LONG_PAUSE = 15.0  # [s] for which one is that failed
_LAST_MOMENT = 0.3  # [s] for requests to be sent when the process ends
_REMEMBERED = 300.0  # [s] for which an actor that was not heard is told, when it is heard again, to leave its job
_CANCEL_PATIENCE = 15.0  # [s] for jobs to end that are cancelled
_LATE = 30.0  # [s] in which arms that are expected may yet come, while all the others fail


@dataclass
class Arm:
    """An arm, by the name of its namespace."""

    name: str
    clients: dict[str, ActionClient]
    asking: Client | None = None
    answer: Any = None
    busy_with: str = ""
    job: RemoteJob | None = None
    part: Any = None
    free_at: float = 0.0
    problem: str = ""
    parts_done: int = 0
    there: bool = True


class Arms:
    """Everybody who offers an actor's jobs below a namespace, whenever they come."""

    def __init__(
        self,
        node: Node,
        executor: FastExecutor,
        check: Callable[[], None],
        stopping: Callable[[], bool],
        *,
        expected: int = 0,
    ) -> None:
        """Look for nobody yet.

        Args:
            node: whose namespace the arms' are below.
            executor: spins while waiting.
            check: called while waiting; may raise to leave.
            stopping: whether the process ends, and with it perhaps the arms: then they are not waited for.
            expected: arms that will come; a job in which all the others fail does not fail at once before they have.
        """
        self._expected, self._all_failed_at = expected, float("inf")
        self._node, self._executor, self._check, self._stopping = node, executor, check, stopping
        self._root = node.get_namespace().rstrip("/") + "/"
        self._looked_at = 0.0
        self._given_up: list[tuple[float, RemoteJob]] = []
        self.arms: dict[str, Arm] = {}

    def look(self) -> None:
        """See who has come and who is gone; not more often than twice a second."""
        if time.monotonic() < self._looked_at + _LOOK:
            return
        self._looked_at = time.monotonic()
        services = [service for service, _ in self._node.get_service_names_and_types()]
        found = arms_among(services, self._root)
        for name in sorted(found - set(self.arms)):
            actions = {
                action: ActionClient(self._node, kind, f"{self._root}{name}/{action}")
                for action, kind in _ACTIONS.items()
            }
            self.arms[name] = Arm(name, actions, self._node.create_client(Trigger, f"{self._root}{name}/{JOB}"))
            log(self._node, INFO, f"{name} has joined")
        for name, arm in self.arms.items():
            if arm.there != (name in found):
                arm.there = name in found
                log(self._node, INFO if arm.there else WARN, f"{name} {'is back' if arm.there else 'is gone'}")

    @property
    def present(self) -> list[Arm]:
        """Those that are there."""
        return [arm for arm in self.arms.values() if arm.there]

    def await_some(self, tell: Callable[[str], None] = lambda _: None) -> None:
        """Wait until there is an arm; `tell` takes that it is waited for, in words, and nothing once it is there."""

        def anybody() -> bool:
            tell(self._notice_nobody())
            return bool(self.present)

        self._spin(anybody)

    def do(
        self, work: Work, action: str, goal: Callable[[Arm, Any], Any], tell: Callable[[str], None] = lambda _: None
    ) -> None:
        """Have the arms do a work, each part after part, until it is over.

        Args:
            work: that is divided.
            action: of the actors by which a part is done: train, evaluate or record.
            goal: message of the action for an arm and a part.
            tell: takes what arms wait for, in words; empty: nothing.

        Raises:
            JobFailed: all arms that are there have failed, or refuse what the fleet asks for; says why.
        """
        self._all_failed_at = float("inf")
        for arm in self.arms.values():
            arm.problem = arm.busy_with = ""  # of another job
        try:
            self._spin(lambda: self._turn(work, action, goal, tell))
        finally:
            self._leave()

    def _turn(self, work: Work, action: str, goal: Callable[[Arm, Any], Any], tell: Callable[[str], None]) -> bool:
        now = time.monotonic()
        for arm in self.arms.values():
            if arm.job is not None:
                self._hear(arm, work, action)
            elif arm.answer is not None and arm.answer.done():
                self._take_answer(arm)
        busy = {arm.name for arm in self.arms.values() if arm.job is not None}
        waiting = {arm.name: arm.job.waiting for arm in self.arms.values() if arm.job is not None and arm.job.waiting}
        if not busy and (nobody := self._notice_nobody()):
            tell(nobody)
        else:
            # While others work, one that does not is told of in the log and the diagnostics.
            awaited = waiting or ({} if busy else {arm.name: arm.busy_with for arm in self.present if arm.busy_with})
            tell("; ".join(f"{name}: {what}" for name, what in awaited.items()))
        if work.is_over(busy, set(waiting)):
            return True
        for arm in self.present:
            if arm.job is None and now >= arm.free_at and arm.clients[action].server_is_ready():
                part = work.take(arm.name)
                if part is not None:
                    arm.part, arm.answer = part, None  # what it said of an earlier job counts no more
                    arm.job = RemoteJob(arm.clients[action], goal(arm, part))
        self._fail_with_all(now)
        return False

    def _fail_with_all(self, now: float) -> None:
        present = self.present
        if not present or not all(arm.problem for arm in present):
            self._all_failed_at = float("inf")
            return
        self._all_failed_at = min(self._all_failed_at, now)
        if any(arm.job is not None and arm.job.is_accepted for arm in present):
            return  # it works after all
        if len(present) >= self._expected or now >= self._all_failed_at + _LATE:
            raise JobFailed("; ".join(f"{arm.name}: {arm.problem}" for arm in present))

    def _notice_nobody(self) -> str:
        """What is waited for where nobody is there, which is logged; empty where somebody is."""
        if self.present:
            return ""
        text = f"waiting for an arm: nobody offers train in a namespace below {self._root}"
        log(self._node, WARN, text, throttle=_NOTICE)
        return text

    def _take_answer(self, arm: Arm) -> None:
        """Hear why an arm has refused: for good, or because it has another job to end."""
        answer, arm.answer = arm.answer.result(), None
        reason = printable(answer.message)
        if answer.success:
            arm.busy_with = reason
            return
        arm.problem, arm.free_at = reason, time.monotonic() + _LONG_PAUSE
        log(self._node, ERROR, f"{arm.name} takes no part: {reason}", throttle=60.0)

    def _hear(self, arm: Arm, work: Work, action: str) -> None:
        assert arm.job is not None
        part = arm.part
        try:
            result = arm.job.poll()
        except ArmGone as error:
            if error.knows_it:
                self._give_up(arm.job)  # where it is heard again, it must not go on
            arm.job, arm.free_at = None, time.monotonic() + _PAUSE
            work.give_back(arm.name, part)
            log(self._node, WARN, f"{arm.name} {error}; others take its part", throttle=5.0)
            if error.refused and arm.asking is not None and arm.asking.service_is_ready():
                arm.answer = arm.asking.call_async(Trigger.Request())
            return
        if result is None:
            return
        arm.job, arm.busy_with = None, ""
        if result.termination_reason in ("failed", "canceled"):
            work.give_back(arm.name, part)
            failed = result.termination_reason == "failed"
            arm.free_at = time.monotonic() + (_LONG_PAUSE if failed else _PAUSE)
            arm.problem = printable(result.message) if failed else ""
            log(self._node, WARN, f"{arm.name}: {printable(result.message)}", throttle=1.0)
            return
        arm.problem = ""
        arm.parts_done += 1
        work.done(arm.name, part, result)

    def _leave(self) -> None:
        """Have arms leave what they still do: nobody waits for it any more."""
        busy = [arm for arm in self.arms.values() if arm.job is not None]
        for arm in busy:
            assert arm.job is not None
            arm.job.cancel()
        deadline = time.monotonic() + (_LAST_MOMENT if self._stopping() else _CANCEL_PATIENCE)
        for arm in busy:
            while arm.job is not None and time.monotonic() < deadline:
                if self._stopping():
                    deadline = min(deadline, time.monotonic() + _LAST_MOMENT)
                job = arm.job
                try:
                    if job.poll() is not None:
                        arm.job = None
                except ArmGone as error:
                    arm.job = None
                    if error.knows_it:
                        self._give_up(job)
                self._executor.spin_once(_TURN)
            if arm.job is not None:
                self._give_up(arm.job)
            arm.job = None

    def _give_up(self, job: RemoteJob) -> None:
        """Wait no longer for a job, and have its actor leave it when that is heard again."""
        job.cancel()
        self._given_up.append((time.monotonic() + _REMEMBERED, job))

    def _cancel_given_up(self) -> None:
        now, left = time.monotonic(), []
        for until, job in self._given_up:
            try:
                ended = job.poll() is not None
            except ArmGone as error:
                ended = not error.knows_it
            if not ended and now < until:
                left.append((until, job))
        self._given_up = left

    def _spin(self, condition: Callable[[], bool]) -> None:
        while True:
            self.look()
            self._cancel_given_up()
            if condition():
                return
            self._check()
            self._executor.spin_once(_TURN)


def arms_among(services: Iterable[str], root: str) -> set[str]:
    """Names of the arms whose namespaces are in `root`, by the names of all services there are.

    Args:
        services: names of services, those of actions among them.
        root: namespace of the fleet, with a slash at its end.
    """
    known = set(services)
    names = {name.removesuffix(_MARK).removeprefix(root) for name in known if name.endswith(_MARK)}
    # Deeper ones are arms of other fleets, and so is what tells which arms it has.
    return {
        name
        for name in names
        if name and "/" not in name and f"{root}{name}{_MARK}" in known and f"{root}{name}/{ARMS}" not in known
    }
