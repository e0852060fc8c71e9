# SPDX-License-Identifier: Apache-2.0
"""Node `actor`: runs episodes on request of its actions, hands transitions to the learner, acts with its policy."""

from __future__ import annotations

import math
import threading
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from rclpy.action import CancelResponse, GoalResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.node import Node
from serl_config.text import printable
from serl_rl.storage.demonstrations import DemonstrationError, DemonstrationFile, read_demonstrations
from serl_ros.action_server import GuardedActionServer
from serl_ros.diagnostics import ERROR, OK, WARN, Diagnostics
from serl_ros.execution.executor import FastExecutor
from serl_ros.execution.faults import report_fault
from serl_ros.log import ERROR as LOG_ERROR
from serl_ros.log import WARN as LOG_WARN
from serl_ros.log import log
from serl_ros.node import run_node
from serl_ros.parameters import declare
from serl_ros.qos import RELIABLE_50

from serl_interfaces.action import Evaluate, Record, ResetEpisode, Train
from serl_interfaces.msg import Metrics
from serl_tasks import get_task, task_names
from serl_training.actor.actor import FIRST_EVALUATION, Actor, Cancelled, JobFailed, TrainGoal
from serl_training.actor.perception import make_perception
from serl_training.env.graph_cameras import Transport
from serl_training.env.graph_env import EpisodeMode, GraphEnv
from serl_training.env.rollout import EpisodeLost
from serl_training.graph_jax import declare_compile_cache, prepare
from serl_training.link.contract import LEARNING, load_learning
from serl_training.link.graph_id import GRAPH_ID, belong_together, mismatch
from serl_training.link.graph_learner import GraphLearner

_FEEDBACK_PERIOD = 0.5  # [s]
_RESULT_TIMEOUT = 86400  # [s] that a result can be asked for: a laptop sleeps, and simulated time runs fast
_NOTICE_PERIOD = 5.0  # [s] between log lines about something that is waited for


@dataclass
class _Job:
    """An accepted goal and what to do for it."""

    goal: ServerGoalHandle
    work: Callable[[ServerGoalHandle], Any]
    failed: Callable[[str, str], Any]
    """Makes the result of a goal that ended early from termination reason and message."""


class ActorNode(Node):
    """Serves `train`, `evaluate`, `record` and `episode/reset`, one at a time."""

    def __init__(self) -> None:
        """Declare parameters and connect."""
        super().__init__("actor")
        self._task = get_task(declare(self, "task", "pick_cube", "Task to learn.", choices=task_names()))
        self._seed = declare(self, "seed", 0, "Seed of start states and exploration.", range=(0, 2**31))
        self._learning = load_learning(declare(self, "learning", "", LEARNING), self._task)
        self._actor_id = declare(self, "actor_id", "actor_0", "Name under which the transitions are stored.")
        self._graph_id = declare(self, "graph_id", "", GRAPH_ID)
        self._lockstep = declare(self, "lockstep", True, "Whether the world waits for each command.")
        self._scripted = declare(self, "scripted_human", True, "Whether a scripted person answers when asked to.")
        self._interventions = declare(self, "interventions", True, "Whether that person watches training episodes.")
        self._max_lead = declare(
            self, "max_lead", 24, "In lockstep, wait while the policy lags more env steps; 0 never.", range=(0, 100000)
        )
        self._max_backlog = declare(
            self, "max_backlog", 20000, "Wait while more transitions are unacknowledged.", range=(1, 10**7)
        )
        self._chunk_size = declare(self, "chunk_size", 8, "Transitions handed to the learner at once.", range=(1, 1000))
        self._camera_timeout = declare(
            self, "camera_timeout", 0.5, "Age from which a picture is too old to act on [s].", range=(0.01, 60.0)
        )
        transport = declare(
            self, "image_transport", "raw", "Pictures come raw or compressed.", choices=("raw", "compressed")
        )
        self._image_transport = cast(Transport, transport)
        cache = declare_compile_cache(self)
        if self._task.cameras:
            prepare(self, cache)
        own_seed = zlib.crc32(f"{self._seed}/{self._actor_id}".encode())
        self._perception = make_perception(self._task, self._learning, own_seed)
        self._metrics = self.create_publisher(Metrics, "metrics", RELIABLE_50)
        self._diagnostics = Diagnostics(self)
        self._diagnostics.set("job", OK, "idle")
        self._jobs: list[_Job] = []
        self._running: _Job | None = None
        self._feedback_message: Any = None
        self._feedback_time = 0.0
        self._stop = threading.Event()
        self._servers = [
            self._serve(Train, "train", self._train),
            self._serve(Evaluate, "evaluate", self._evaluate),
            self._serve(Record, "record", self._record),
            self._serve(ResetEpisode, "episode/reset", self._reset),
        ]

    def run(self, executor: FastExecutor, stop: threading.Event) -> None:
        """Do one job after the other until `stop`."""
        self._stop, self._executor = stop, executor
        self._env = GraphEnv(
            self._task,
            node=self,
            executor=executor,
            lockstep=self._lockstep,
            camera_timeout=self._camera_timeout,
            image_transport=self._image_transport,
            check=self._check,
        )
        self._learner = GraphLearner(
            self,
            executor,
            spec=self._perception.spec,
            encoder=self._perception.weights,
            actor_id=self._actor_id,
            graph_id=self._graph_id,
            max_lead=self._max_lead if self._lockstep else 0,
            max_backlog=self._max_backlog,
            check=self._check,
        )
        self._actor = Actor(
            self._perception.wrap(self._env),
            self._learner,
            modes=self._modes(),
            spec=self._perception.spec,
            actor_id=self._actor_id,
            report=self._report,
            check=self._check_step,
            ready=self._wait_until_ready,
            random_steps=self._learning.random_steps,
            updates_before_acting=self._learning.updates_before_acting,
            chunk_size=self._chunk_size,
        )
        while not stop.is_set():
            executor.spin_once(0.1)
            if self._jobs:
                self._run_job(self._jobs.pop(0))

    def _modes(self) -> dict[str, dict[str, Any]]:
        human = self._scripted
        return {
            "demonstration": {"mode": EpisodeMode.DEMONSTRATION, "human_expected": human},
            "training": {"mode": EpisodeMode.TRAINING, "human_expected": human and self._interventions},
            "evaluation": {"mode": EpisodeMode.EVALUATION, "human_expected": False},
        }

    # Jobs

    def _serve(self, action: Any, name: str, work: Callable[[ServerGoalHandle], Any]) -> GuardedActionServer:
        def accepted(goal: ServerGoalHandle) -> None:
            def failed(reason: str, message: str) -> Any:
                return action.Result(success=False, termination_reason=reason, message=message)

            self._jobs.append(_Job(goal, work, failed))

        return GuardedActionServer(
            self,
            action,
            name,
            execute_callback=lambda _goal: action.Result(),
            goal_callback=lambda goal: self._admit(name, getattr(goal, "graph_id", "")),
            handle_accepted_callback=accepted,
            cancel_callback=lambda _goal: CancelResponse.ACCEPT,
            result_timeout=_RESULT_TIMEOUT,
        )

    def _admit(self, name: str, graph_id: str) -> GoalResponse:
        if not belong_together(graph_id, self._graph_id):
            text = f"{name}: refused, the goal is for {mismatch(graph_id, self._graph_id)}"
            log(self, LOG_WARN, text, throttle=1.0)
            return GoalResponse.REJECT
        if self._running is not None or self._jobs:
            log(self, LOG_WARN, f"{name}: refused, another job is running; cancel it first", throttle=1.0)
            return GoalResponse.REJECT
        return GoalResponse.ACCEPT

    def _run_job(self, job: _Job) -> None:
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
            report_fault(self, "job", error)
            result = self._failed(job, error)
        finally:
            self._running = self._feedback_message = None
            self._env.idle()

        def finish(goal: ServerGoalHandle) -> Any:
            getattr(goal, outcome)()
            return result

        job.goal.execute(finish)

    def _failed(self, job: _Job, error: Exception) -> Any:
        text = printable(error)
        log(self, LOG_ERROR, text)
        self._diagnostics.set("job", ERROR, text)
        return job.failed("failed", text)

    def _check_step(self) -> None:
        """Called at every step; leaves the episode when the arm is stopped."""
        self._check()
        if self._env.estop:
            raise EpisodeLost("the e-stop was pressed")

    def _wait_until_ready(self) -> None:
        """Wait while the e-stop is latched or a camera is silent: neither a motionless arm nor a blind one learns."""
        if self._env.estop:
            self._pause(lambda: self._env.estop, lambda: "the e-stop: waiting for arm/reset_estop")
        if self._env.stale_cameras():
            self._pause(
                lambda: bool(self._env.stale_cameras()),
                lambda: "cameras: waiting for pictures on " + ", ".join(self._env.stale_cameras()),
            )

    def _pause(self, lasts: Callable[[], bool], reason: Callable[[], str]) -> None:
        """Wait while `lasts`, and say for what."""
        paused = False
        while not self._executor.spin_until(lambda: not lasts(), 0.2):
            log(self, LOG_WARN, f"paused by {reason()}", throttle=_NOTICE_PERIOD)
            self._diagnostics.set("job", WARN, f"paused by {reason()}")
            self._check()
            paused = True
        if paused:
            self._diagnostics.set("job", OK, "running")
            self.get_logger().info("going on with a new episode")

    def _check(self) -> None:
        """Called at every step and while waiting; leaves the job when it is cancelled."""
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

    def _feedback(self, message: Any, *, now: bool = False) -> None:
        """Set the feedback of the running job; it is repeated while the job lives."""
        self._feedback_message = message
        if now:
            self._feedback_time = 0.0
        self._check()

    def _train(self, handle: ServerGoalHandle) -> Train.Result:
        request = handle.request
        _check_rate("train: success_goal", request.success_goal)
        goal = TrainGoal(
            demonstrations=0 if request.demonstration_file else request.demonstrations,
            max_env_steps=request.max_env_steps,
            eval_every=request.eval_every,
            eval_episodes=request.eval_episodes,
            success_goal=request.success_goal,
            seed=request.seed,
        )
        if request.demonstration_file:
            self._load_demonstrations(Path(request.demonstration_file))
        stage = ""

        def feedback(new: str, env_steps: int, rate: float) -> None:
            nonlocal stage
            self._feedback(Train.Feedback(stage=new, env_steps=env_steps, success_rate=rate), now=new != stage)
            stage = new

        result = self._actor.train(goal, feedback)
        return Train.Result(
            success=result.reached,
            termination_reason="goal" if result.reached else "max_env_steps",
            message="",
            env_steps=result.env_steps,
            env_steps_to_goal=result.env_steps_to_goal,
            success_rate=result.success_rate,
            wall_seconds=result.wall_seconds,
        )

    def _load_demonstrations(self, path: Path) -> None:
        """Hand the demonstrations of a file to a learner that has none yet."""
        chunks = list(read_demonstrations(path, self._perception.spec))
        self._learner.connect()
        if self._learner.totals.demonstrations:
            return
        for chunk in chunks:
            self._check()
            self._learner.send(chunk)
        self._learner.flush()

    def _evaluate(self, handle: ServerGoalHandle) -> Evaluate.Result:
        request = handle.request
        _check_job("evaluate", request.episodes, request.seed)
        _check_rate("evaluate: stop_below", request.stop_below)
        self._feedback(Evaluate.Feedback(), now=True)
        self._learner.connect()
        result = self._actor.evaluate(
            request.episodes,
            request.seed,
            request.stop_below,
            lambda done, successes: self._feedback(Evaluate.Feedback(episodes=done, successes=successes)),
        )
        return Evaluate.Result(
            success=True,
            termination_reason="done" if result.complete else "out_of_reach",
            episodes=result.episodes,
            successes=result.successes,
            success_rate=result.rate,
            interval_low=result.interval[0],
            interval_high=result.interval[1],
            mean_length=result.mean_length,
            policy_version=result.policy_version,
        )

    def _record(self, handle: ServerGoalHandle) -> Record.Result:
        request = handle.request
        _check_job("record", request.episodes, request.seed)
        self._feedback(Record.Feedback(), now=True)

        def feedback(done: int, attempts: int) -> None:
            self._feedback(Record.Feedback(episodes=done, attempts=attempts))

        if request.path:
            with DemonstrationFile(Path(request.path), self._perception.spec) as file:
                done, attempts, transitions = self._actor.record(request.episodes, request.seed, file.append, feedback)
        else:
            self._learner.connect()
            done, attempts, transitions = self._actor.record(
                request.episodes, request.seed, self._learner.send, feedback
            )
            self._learner.flush()
        return Record.Result(
            success=True,
            termination_reason="done",
            episodes=done,
            attempts=attempts,
            transitions=transitions,
            path=request.path,
        )

    def _reset(self, handle: ServerGoalHandle) -> ResetEpisode.Result:
        handle.publish_feedback(ResetEpisode.Feedback(stage="world"))
        episode = handle.request.episode or self._env.episode + 1
        if handle.request.seed < 0 or episode >= FIRST_EVALUATION:
            raise ValueError(
                f"episode/reset: expected a seed from 0 and an episode below {FIRST_EVALUATION}, found "
                f"{handle.request.seed} and {episode}"
            )
        self._env.reset(seed=handle.request.seed, options={"episode": episode})
        return ResetEpisode.Result(success=True, termination_reason="done")

    def _report(self, env_steps: int, values: dict[str, float]) -> None:
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        message = Metrics(node=self.get_name(), env_steps=env_steps, names=list(finite), values=list(finite.values()))
        message.header.stamp = self.get_clock().now().to_msg()
        self._metrics.publish(message)
        backlog = self._learner.backlog
        level = WARN if backlog > self._max_backlog // 2 else OK
        self._diagnostics.set("learner", level, "connected", policy_lag=self._learner.lag, backlog=backlog)


def _check_job(name: str, episodes: int, seed: int) -> None:
    if episodes < 1 or seed < 0:
        raise ValueError(f"{name}: expected at least 1 episode and a seed from 0, found {episodes} and {seed}")


def _check_rate(name: str, value: float) -> None:
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{name}: expected a success rate from 0 to 1, found {value}")


def main() -> None:
    """Entry point."""
    run_node(ActorNode)
