# SPDX-License-Identifier: Apache-2.0
"""Goals of the actor's actions for two tasks that take turns, and what is reported of each of the two."""

from __future__ import annotations

from rclpy.node import Node
from serl_ros.diagnostics import OK, WARN, Diagnostics

from serl_interfaces.action import Evaluate, Record, Train
from serl_training.actor.graph_answers import (
    Tell,
    evaluate_feedback,
    evaluate_result,
    record_feedback,
    record_result,
    train_feedback,
    train_goal,
    train_result,
)
from serl_training.actor.graph_metrics import MetricsPublisher
from serl_training.actor.job import JobHost
from serl_training.actor.pair import Pair
from serl_training.link.graph_learner_link import GraphLearnerLink


def learner_prefix(task: str) -> str:
    """Before the names of what goes between the actor of a pair and the learner of one of its tasks."""
    return f"{task}/"


class PairMemberHost:
    """The host of one task's actor: as that of the pair, with metrics of its own, which its learner writes down."""

    def __init__(
        self, node: Node, task: str, link: GraphLearnerLink, host: JobHost, diagnostics: Diagnostics, max_backlog: int
    ) -> None:
        """Report of `task` on ``<task>/metrics``.

        Args:
            node: that reports.
            task: by name.
            link: to its learner.
            host: of the pair.
            diagnostics: of the node, which get a status of the link.
            max_backlog: transitions that are not acknowledged, above half of which the status is a warning.
        """
        self.check, self.wait_until_ready, self.end_episode = host.check, host.wait_until_ready, host.end_episode
        self._task, self._link, self._diagnostics, self._max_backlog = task, link, diagnostics, max_backlog
        self._publish = MetricsPublisher(node, learner_prefix(task))

    def report(self, env_steps: int, values: dict[str, float]) -> None:
        """See `JobHost`."""
        self._publish(env_steps, values)
        backlog = self._link.backlog
        level = WARN if backlog > self._max_backlog // 2 else OK
        name = f"learner of {self._task}"
        self._diagnostics.set(name, level, "connected", policy_lag=self._link.lag, backlog=backlog)

    def mind(self, component: str, concern: str) -> None:
        """See `JobHost`."""
        self._diagnostics.set(f"{component} of {self._task}", WARN if concern else OK, concern or "as it should be")


class PairJobs:
    """Does for a pair what the actor's actions ask for."""

    def __init__(self, pair: Pair, tell: Tell) -> None:
        """Do it with `pair`; `tell` takes feedback."""
        self._pair, self._tell = pair, tell

    def train(self, request: Train.Goal) -> Train.Result:
        """Learn both tasks.

        Raises:
            ValueError: the goal names a file of demonstrations, which are of one task, or has a number out of range.
        """
        if request.demonstration_file:
            raise ValueError(
                f"train: demonstration_file: expected none, as a pair records demonstrations of both tasks; found "
                f"{request.demonstration_file}"
            )
        result = self._pair.train(train_goal(request), train_feedback(self._tell))
        return train_result(result.both, result.tallies, result.resets)

    def evaluate(self, request: Evaluate.Goal) -> Evaluate.Result:
        """Let the two policies take turns."""
        feedback = evaluate_feedback(self._tell)
        self._pair.connect()
        result = self._pair.evaluate(request.episodes, request.seed, request.stop_below, feedback)
        return evaluate_result(result.both, result.tallies, result.resets)

    def record(self, request: Record.Goal) -> Record.Result:
        """Record demonstrations of both tasks for their learners.

        Raises:
            ValueError: the goal names a file, which holds demonstrations of one task.
        """
        if request.path:
            raise ValueError(
                f"record: path: expected none, as a pair has demonstrations of two tasks; found {request.path}"
            )
        return record_result(self._pair.record(request.episodes, request.seed, record_feedback(self._tell)))
