# SPDX-License-Identifier: Apache-2.0
"""Goals of the actor's actions for two tasks that take turns, and what is reported of each of the two."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rclpy.node import Node
from serl_ros.diagnostics import OK, WARN, Diagnostics

from serl_interfaces.action import Evaluate, Record, Train
from serl_interfaces.msg import TaskTally
from serl_training.actor.graph_metrics import MetricsPublisher
from serl_training.actor.job import JobHost, TrainGoal
from serl_training.actor.pair import Pair, Tally
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
        self.check, self.wait_until_ready = host.check, host.wait_until_ready
        self._task, self._link, self._diagnostics, self._max_backlog = task, link, diagnostics, max_backlog
        self._publish = MetricsPublisher(node, learner_prefix(task))

    def report(self, env_steps: int, values: dict[str, float]) -> None:
        """See `JobHost`."""
        self._publish(env_steps, values)
        backlog = self._link.backlog
        level = WARN if backlog > self._max_backlog // 2 else OK
        name = f"learner of {self._task}"
        self._diagnostics.set(name, level, "connected", policy_lag=self._link.lag, backlog=backlog)


class PairJobs:
    """Does for a pair what the actor's actions ask for."""

    def __init__(self, pair: Pair, feedback: Callable[..., None]) -> None:
        """Do it with `pair`; `feedback` takes a feedback message, and whether it is to be told at once, ``now``."""
        self._pair, self._feedback = pair, feedback

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
        goal = TrainGoal(
            demonstrations=request.demonstrations,
            max_env_steps=request.max_env_steps,
            eval_every=request.eval_every,
            eval_episodes=request.eval_episodes,
            success_goal=request.success_goal,
            seed=request.seed,
        )
        stage = ""

        def feedback(new: str, env_steps: int, rate: float) -> None:
            nonlocal stage
            self._feedback(Train.Feedback(stage=new, env_steps=env_steps, success_rate=rate), now=new != stage)
            stage = new

        result = self._pair.train(goal, feedback)
        both = result.both
        return Train.Result(
            success=both.reached,
            termination_reason="goal" if both.reached else "max_env_steps",
            env_steps=both.env_steps,
            env_steps_to_goal=both.env_steps_to_goal,
            success_rate=both.success_rate,
            wall_seconds=both.wall_seconds,
            tasks=_tallies(result.tallies),
            resets=result.resets,
        )

    def evaluate(self, request: Evaluate.Goal) -> Evaluate.Result:
        """Let the two policies take turns."""
        self._feedback(Evaluate.Feedback(), now=True)
        self._pair.connect()
        result = self._pair.evaluate(
            request.episodes,
            request.seed,
            request.stop_below,
            lambda done, successes: self._feedback(Evaluate.Feedback(episodes=done, successes=successes)),
        )
        both = result.both
        return Evaluate.Result(
            success=True,
            termination_reason="done" if both.complete else "out_of_reach",
            episodes=both.episodes,
            successes=both.successes,
            success_rate=both.rate,
            interval_low=both.interval[0],
            interval_high=both.interval[1],
            mean_length=both.mean_length,
            policy_version=both.policy_version,
            tasks=_tallies(result.tallies),
            resets=result.resets,
        )

    def record(self, request: Record.Goal) -> Record.Result:
        """Record demonstrations of both tasks for their learners.

        Raises:
            ValueError: the goal names a file, which holds demonstrations of one task.
        """
        if request.path:
            raise ValueError(
                f"record: path: expected none, as a pair has demonstrations of two tasks; found {request.path}"
            )
        self._feedback(Record.Feedback(), now=True)
        result = self._pair.record(
            request.episodes,
            request.seed,
            lambda done, attempts: self._feedback(Record.Feedback(episodes=done, attempts=attempts)),
        )
        return Record.Result(
            success=True,
            termination_reason="done",
            episodes=result.successes,
            attempts=result.attempts,
            transitions=result.transitions,
        )


def _tallies(tallies: Mapping[str, Tally]) -> list[Any]:
    return [TaskTally(task=name, episodes=tally.episodes, successes=tally.successes) for name, tally in tallies.items()]
