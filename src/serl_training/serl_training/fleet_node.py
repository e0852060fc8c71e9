# SPDX-License-Identifier: Apache-2.0
"""Node `fleet`: offers the jobs of an actor, and has all arms below its namespace do them together."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any

from rclpy.action.server import ServerGoalHandle
from rclpy.node import Node
from serl_ros.diagnostics import OK, WARN, Diagnostics
from serl_ros.execution.executor import FastExecutor
from serl_ros.incoming import subscribe
from serl_ros.log import FATAL, log
from serl_ros.log import WARN as LOG_WARN
from serl_ros.node import CONFIGURATION_ERROR, run_node
from serl_ros.parameters import declare
from serl_ros.qos import RELIABLE_50
from serl_tasks.messages import MessageError, metric_values
from std_srvs.srv import Trigger

from serl_interfaces.action import Evaluate, Record, Train
from serl_interfaces.msg import Metrics
from serl_tasks import get_task, task_names
from serl_training.actor.graph_answers import (
    evaluate_feedback,
    evaluate_result,
    record_feedback,
    record_result,
    train_feedback,
    train_goal,
    train_result,
)
from serl_training.actor.graph_job_server import JobServer
from serl_training.actor.graph_metrics import MetricsPublisher
from serl_training.actor.job import EvaluationResult, RecordResult, TrainGoal, TrainResult, demonstrations_stage
from serl_training.env.episode import arm_demonstrations_seed
from serl_training.fleet.autonomy import FleetAutonomy
from serl_training.fleet.graph_arms import ARMS, Arm, Arms
from serl_training.fleet.graph_learner_view import LearnerView
from serl_training.fleet.graph_rivals import Rivals
from serl_training.fleet.work import SharedCollection, SharedDemonstrations, SharedEvaluation, Span
from serl_training.link.contract import LEARNING, load_learning
from serl_training.link.graph_id import GRAPH_ID
from serl_training.link.learner_link import JobFailed

_ANOTHER = 1.0  # [s] in which a fleet that is there already is heard
_LAST_WORDS = 1.0  # [s] in which the client of a job gets its result before the node ends
_NEVER = 2**31


class FleetNode(Node):
    """Serves `train`, `evaluate` and `record` for all arms, one job at a time, and `fleet/arms`."""

    def __init__(self) -> None:
        """Declare parameters; nothing is offered yet."""
        super().__init__("fleet")
        self._task = get_task(declare(self, "task", "pick_cube", "Task to learn.", choices=task_names()))
        self._learning = load_learning(declare(self, "learning", "", LEARNING), self._task)
        self._graph_id = declare(self, "graph_id", "", GRAPH_ID)
        self._expected = declare(
            self, "actors", 2, "Arms that are started with the fleet; more may join.", range=(0, 1000)
        )
        self._diagnostics = Diagnostics(self)
        self._metrics = MetricsPublisher(self)

    def run(self, executor: FastExecutor, stop: threading.Event) -> None:
        """Do one job after the other until `stop`; leave where another fleet is at work, whenever that is found."""
        self._rivals = Rivals(self)
        executor.spin_until(lambda: bool(self._rivals.problem), _ANOTHER)
        self._leave_to_rival()
        self._rivals.begin()
        self.create_service(Trigger, ARMS, self._say_arms)
        cores = os.cpu_count() or 1
        if self._expected > 4 * cores:
            text = f"{self._expected} arms on {cores} cores: each is simulated slowly; start some on other machines"
            log(self, LOG_WARN, text)
        self._jobs = JobServer(self, self._diagnostics, self._graph_id, lambda: None, self._task.name)
        self._arms = Arms(self, executor, self._check, stop.is_set, expected=self._expected)
        self._learner = LearnerView(self, executor, self._graph_id, self._check)
        self._autonomy = FleetAutonomy()
        subscription = subscribe(self, Metrics, "metrics", self._on_metrics, RELIABLE_50, MessageError)
        self._jobs.serve(Train, "train", self._train)
        self._jobs.serve(Evaluate, "evaluate", self._evaluate)
        self._jobs.serve(Record, "record", self._record)
        while not stop.is_set():
            executor.spin_once(0.1)
            self._arms.look()
            self._say_who_is_there()
            self._jobs.run_next(stop)
            self._rivals.tell()
            if self._rivals.problem:
                executor.spin_until(stop.is_set, _LAST_WORDS)
                self._leave_to_rival()
        self.destroy_subscription(subscription)

    def _check(self) -> None:
        """Called while a job waits; raises to leave it."""
        self._rivals.tell()
        if self._rivals.problem:
            raise JobFailed(self._rivals.problem)
        self._jobs.check()

    def _leave_to_rival(self) -> None:
        if self._rivals.problem:
            log(self, FATAL, self._rivals.problem)
            raise SystemExit(CONFIGURATION_ERROR)

    def _on_metrics(self, message: Metrics) -> None:
        """Count a training episode of an arm, and tell what it comes to over all of them."""
        arm, _, node = message.node.removeprefix(self.get_namespace().strip("/")).lstrip("/").partition("/")
        if node and "/" not in node and arm in self._arms.arms:
            self._metrics(message.env_steps, self._autonomy.hear(metric_values(message)))

    def _say_arms(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success = True
        response.message = ", ".join(sorted(arm.name for arm in self._arms.present)) or "no arms yet"
        return response

    def _say_who_is_there(self) -> None:
        gone = [arm.name for arm in self._arms.arms.values() if not arm.there]
        wrong = {arm.name: arm.problem for arm in self._arms.present if arm.problem}
        missing = max(0, self._expected - len(self._arms.present))
        text = f"{len(self._arms.present)} arms" + (f", {missing} missing" if missing else "")
        text += f", gone: {', '.join(gone)}" if gone else ""
        level = WARN if missing or wrong else OK
        self._diagnostics.set(
            "arms", level, text, **{f"arm {arm.name}": arm.problem or arm.parts_done for arm in self._arms.present}
        )

    def _tell(self, what: str) -> None:
        self._jobs.await_person(what)
        self._say_who_is_there()

    # Jobs

    def _train(self, handle: ServerGoalHandle) -> Train.Result:
        request = handle.request
        if request.demonstration_file:
            raise ValueError("train: a fleet records its demonstrations; train one arm with a file of them")
        goal, feedback = train_goal(request), train_feedback(self._jobs.feedback)
        if goal.eval_episodes < 1:
            raise ValueError("train: expected at least 1 episode of an evaluation, found 0")
        return train_result(self._learn(goal, feedback))

    def _learn(self, goal: TrainGoal, feedback: Any) -> TrainResult:
        """What `Actor.train` does, by all arms."""
        started, rate = time.monotonic(), 0.0
        feedback("waiting", 0, rate)
        totals = self._learner.totals()
        self._arms.await_some(self._tell)
        missing = goal.demonstrations - totals.demonstrations
        if missing > 0:
            self._demonstrate(missing, goal.seed, demonstrations_stage(feedback, missing, totals.env_steps))
        env_steps = self._learner.totals().env_steps
        due = (env_steps // goal.eval_every + 1) * goal.eval_every
        if count := self._learning.updates_before_acting:
            feedback("pretraining", env_steps, rate)
            self._learner.await_updates(count)
            due = env_steps
        while True:
            if env_steps >= due:
                feedback("evaluation", env_steps, rate)
                for seed in goal.evaluation_seeds(env_steps):
                    result = self._run_evaluation(goal.eval_episodes, seed, goal.success_goal, env_steps)
                    rate = result.rate
                    if not result.complete or rate < goal.success_goal:
                        break
                else:
                    return TrainResult(True, env_steps, env_steps, rate, time.monotonic() - started)
                due = (env_steps // goal.eval_every + 1) * goal.eval_every
            if env_steps >= goal.max_env_steps:
                return TrainResult(False, env_steps, 0, rate, time.monotonic() - started)
            feedback("training", env_steps, rate)
            env_steps = self._collect(min(due, goal.max_env_steps), goal.seed, feedback, rate)

    def _collect(self, target: int, seed: int, feedback: Any, rate: float) -> int:
        work = SharedCollection(target)

        def make(_arm: Arm, part: int) -> Train.Goal:
            return Train.Goal(
                max_env_steps=part, eval_every=_NEVER, seed=seed, graph_id=self._graph_id, task=self._task.name
            )

        def tell(what: str) -> None:
            self._tell(what)
            heard = [arm.job.feedback for arm in self._arms.arms.values() if arm.job is not None]
            steps = max((message.env_steps for message in heard if message is not None), default=0)
            if steps:
                feedback("training", steps, rate)

        self._arms.do(work, "train", make, tell)
        return max(work.env_steps, self._learner.totals().env_steps)

    def _demonstrate(self, missing: int, seed: int, recorded: Callable[[int, int], None]) -> SharedDemonstrations:
        work = SharedDemonstrations(missing, recorded)

        def make(arm: Arm, part: int) -> Record.Goal:
            own = arm_demonstrations_seed(seed, arm.name)
            return Record.Goal(episodes=part, seed=own, graph_id=self._graph_id, task=self._task.name)

        self._arms.do(work, "record", make, self._tell)
        return work

    def _run_evaluation(self, episodes: int, seed: int, stop_below: float, settled_at: int) -> EvaluationResult:
        work = SharedEvaluation(episodes, len(self._arms.present), stop_below)

        def make(_arm: Arm, part: Span) -> Evaluate.Goal:
            return Evaluate.Goal(
                episodes=part.count,
                first=part.first,
                part=True,
                seed=seed,
                settled_at=settled_at,
                graph_id=self._graph_id,
                task=self._task.name,
            )

        self._arms.do(work, "evaluate", make, self._tell)
        result = work.joined()
        self._metrics(settled_at or self._learner.totals().env_steps, result.numbers())
        return result

    def _evaluate(self, handle: ServerGoalHandle) -> Evaluate.Result:
        request = handle.request
        if request.episodes < 1 or request.seed < 0 or not 0.0 <= request.stop_below <= 1.0:
            raise ValueError(
                "evaluate: expected at least 1 episode, a seed from 0 and a success rate from 0 to 1, found "
                f"{request.episodes}, {request.seed} and {request.stop_below}"
            )
        evaluate_feedback(self._jobs.feedback)
        self._learner.totals()
        self._arms.await_some(self._tell)
        return evaluate_result(
            self._run_evaluation(request.episodes, request.seed, request.stop_below, request.settled_at)
        )

    def _record(self, handle: ServerGoalHandle) -> Record.Result:
        request = handle.request
        if request.path:
            raise JobFailed("record: a fleet writes no file; record with one arm (the action record in its namespace)")
        if request.episodes < 1 or request.seed < 0:
            raise ValueError(f"record: expected at least 1 episode, a seed from 0, found {request.episodes}")
        recorded = record_feedback(self._jobs.feedback)
        self._arms.await_some(self._tell)
        work = self._demonstrate(request.episodes, request.seed, recorded)
        return record_result(RecordResult(work.successes, work.attempts, work.transitions))


def main() -> None:
    """Entry point."""
    run_node(FleetNode)
