# SPDX-License-Identifier: Apache-2.0
"""Node `actor`: runs episodes on request of its actions, hands transitions to the learner, acts with its policy."""

from __future__ import annotations

import math
import threading
import zlib
from dataclasses import replace
from pathlib import Path
from typing import cast

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from rclpy.action.server import ServerGoalHandle
from rclpy.node import Node
from serl_rl.storage.chunk import Chunk
from serl_rl.storage.demonstrations import DemonstrationFile, PictureStorage
from serl_ros.diagnostics import OK, WARN, Diagnostics
from serl_ros.execution.executor import FastExecutor
from serl_ros.log import WARN as LOG_WARN
from serl_ros.log import log
from serl_ros.node import run_node
from serl_ros.parameters import ParameterError, declare
from serl_tasks.pair import check_pair

from serl_interfaces.action import Evaluate, Record, ResetEpisode, Train
from serl_tasks import get_task, task_names
from serl_training.actor.actor import Actor, ActorSettings
from serl_training.actor.demonstrations import load_demonstrations
from serl_training.actor.episode_numbers import ACTOR_ID, FIRST_EVALUATION, EpisodeNumbers
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
from serl_training.actor.graph_pair import PairJobs, PairMemberHost, learner_prefix
from serl_training.actor.graph_person import GraphPerson
from serl_training.actor.pair import Member, Pair
from serl_training.actor.perception import Perception, make_perception
from serl_training.agentlace.trainer_link import TRAINER, TrainerLink, find_trainer
from serl_training.env.episode import EpisodeLeft, EpisodeLost, EpisodeMode, Observation
from serl_training.env.graph_arm import EpisodeGraph
from serl_training.env.graph_cameras import Transport
from serl_training.env.graph_env import GraphEnv
from serl_training.env.graph_inputs import check_observable
from serl_training.env.graph_reset import (
    HandReset,
    MotionReset,
    PersonReset,
    PersonResetSettings,
    Reset,
    SimulatorReset,
)
from serl_training.env.graph_turns import TurnReset, WorldReset
from serl_training.env.stamps import StampedEnv
from serl_training.graph_jax import declare_compile_cache, prepare, prepare_backend
from serl_training.link.contract import LEARNING, MAPPING, POLICY, SIMULATED, find_policy, load_learning
from serl_training.link.fixed_policy import FixedPolicy
from serl_training.link.graph_id import GRAPH_ID
from serl_training.link.graph_learner_link import GraphLearnerLink

_PERSONS_PATIENCE = 20  # demonstrations in a row in which a person who uses a device does not lead
_NOTICE_PERIOD = 5.0  # [s] between log lines about something that is waited for
_SIMULATOR_PATIENCE = 20.0  # [s] to try again to move a simulated arm before its world is reset


class ActorNode(Node):
    """Serves `train`, `evaluate`, `record` and `episode/reset`, one at a time."""

    def __init__(self) -> None:
        """Declare parameters and connect."""
        super().__init__("actor")
        self._task = get_task(declare(self, "task", "pick_cube", "Task to learn.", choices=task_names()))
        partner = declare(
            self,
            "partner",
            "",
            "Task that undoes it, to learn by turns without resets; empty: none.",
            choices=("", *task_names()),
        )
        self._partner = get_task(partner) if partner else None
        if self._partner is not None:
            check_pair(self._task, self._partner)
        self._seed = declare(self, "seed", 0, "Seed of start states and exploration.", range=(0, 2**31))
        self._learning = load_learning(declare(self, "learning", "", LEARNING), self._task)
        self._simulated = simulated = declare(self, "simulated", False, SIMULATED)
        self._actor_id = declare(self, "actor_id", ACTOR_ID, "Name under which the transitions are stored.")
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
        self._learner_away = declare(
            self,
            "learner_away",
            "go_on",
            "While nothing is heard of the learner: go on with its last policy, or leave the episode, so that the arm "
            "holds. In lockstep max_lead ends both.",
            choices=("go_on", "hold"),
        )
        self._learner_timeout = declare(
            self,
            "learner_timeout",
            5.0,
            "With learner_away:=hold, how long a learner that has something to answer may be silent [s].",
            range=(0.1, 1e5),
        )
        self._chunk_size = declare(self, "chunk_size", 8, "Transitions handed to the learner at once.", range=(1, 1000))
        self._camera_timeout = declare(
            self, "camera_timeout", 0.5, "Age from which a picture is too old to act on [s].", range=(0.01, 60.0)
        )
        transport = declare(
            self, "image_transport", "raw", "Pictures come raw or compressed.", choices=("raw", "compressed")
        )
        self._image_transport = cast(Transport, transport)
        self._reset_by = declare(
            self,
            "reset",
            "simulator",
            "What brings the world to the start of an episode: sim/reset, the arm's motion and a person, a person's "
            "hand, which leads the arm there, or the arm's motion and sim/reset of a bench that moves no arm.",
            choices=("simulator", "person", "hand", "motion"),
        )
        if self._task.arms and self._reset_by not in ("simulator", "motion"):
            raise ParameterError(
                f"parameter 'reset' of node '{self.get_name()}': expected simulator or motion, as {self._task.name!r} "
                f"has two arms and nobody leads both to a start yet, found {self._reset_by!r}"
            )
        self._person_reset = PersonResetSettings(
            configuration=declare(
                self,
                "reset_configuration",
                "home",
                "Configuration of the robot to which it goes with reset:=person, and of a pair when its tool is stuck.",
            ),
            timeout=declare(
                self,
                "reset_patience",
                600.0,
                "With a person who resets, longest wait for the person [s].",
                range=(1.0, 1e5),
            ),
        )
        self._truth = declare(self, "truth", True, "Whether somebody publishes the true poses of the objects.")
        check_observable(self._task, self._truth)
        pictures = declare(
            self, "demonstration_pictures", "jpeg", "Recorded files keep pictures as these.", choices=("jpeg", "raw")
        )
        self._demonstration_pictures = cast(PictureStorage, pictures)
        cache = declare_compile_cache(self)
        policy = declare(self, "policy", "", POLICY)
        if self._task.cameras:
            prepare_backend(self, cache, self._learning.backend)
            if policy and self._learning.backend != "jax":
                prepare(self, cache)  # networks of imported policies are those of JAX
        own_seed = zlib.crc32(f"{self._seed}/{self._actor_id}".encode())
        self._imported = find_policy(
            policy,
            declare(self, "mapping", "", MAPPING),
            self._task,
            self._learning,
            simulated=simulated,
        )
        if self._partner is not None and self._imported is not None:
            where = f"parameter 'policy' of node '{self.get_name()}'"
            raise ParameterError(f"{where}: expected none for two tasks by turns, found one")
        base = self._imported if self._learning.improves else None
        self._perception = make_perception(self._task, self._learning, own_seed, simulated=simulated, base=base)
        trainer = declare(self, "trainer", "", TRAINER)
        self._trainer, self._perception = find_trainer(trainer, self._perception, partner, policy)
        self._partners: dict[str, Perception] = {}
        self._links: list[GraphLearnerLink | TrainerLink] = []
        if self._partner is not None:
            learning = load_learning(self.get_parameter("learning").value, self._partner)
            other = make_perception(self._partner, learning, own_seed + 1, simulated=simulated)
            self._partners = {self._task.name: self._perception, self._partner.name: other}
        self._metrics = MetricsPublisher(self)
        self._diagnostics = Diagnostics(self)
        rewind = declare(
            self, "rewind_seconds", 3.0, "What a rewind takes back of the running episode [s].", range=(0.01, 600.0)
        )
        self._person = GraphPerson(self, math.ceil(rewind / self._task.control_period - 1e-9))
        self._jobs = JobServer(self, self._diagnostics, self._graph_id, finished=self._finished, task=self._task.name)
        self._jobs.serve(Train, "train", self._train)
        self._jobs.serve(Evaluate, "evaluate", self._evaluate)
        self._jobs.serve(Record, "record", self._record)
        self._jobs.serve(ResetEpisode, "episode/reset", self._reset)

    def run(self, executor: FastExecutor, stop: threading.Event) -> None:
        """Do one job after the other until `stop`."""
        self._executor = executor
        self._env = GraphEnv(
            self._task,
            partner=self._partner,
            node=self,
            executor=executor,
            lockstep=self._lockstep,
            reset=self._make_reset,
            truth=self._truth,
            camera_timeout=self._camera_timeout,
            image_transport=self._image_transport,
            check=self._check_wait,
        )
        settings = ActorSettings(
            self._actor_id,
            human_expected=self._human_expected(),
            idle_demonstrations_limit=1 if self._scripted else _PERSONS_PATIENCE,
            random_steps=self._learning.random_steps,
            updates_before_acting=self._learning.updates_before_acting,
            chunk_size=self._chunk_size,
            whole_episodes=self._task.may_diverge,
        )
        if self._partners:
            self._pair = PairJobs(self._make_pair(settings), self._jobs.feedback)
        else:
            perception = self._perception
            env: gym.Env[Observation, NDArray[np.float32]] = perception.wrap(self._env)
            if self._imported is not None and not self._learning.improves:
                self._learner: GraphLearnerLink | TrainerLink | FixedPolicy = FixedPolicy(self._imported)
                env, perception = self._env, replace(perception, spec=perception.pictures)
            elif self._trainer is not None:
                backlog, check = self._max_backlog, self._jobs.check
                self._learner = TrainerLink(self._trainer, executor, perception.spec, backlog, check)
                self._links.append(self._learner)
                settings = replace(settings, updates_before_acting=0, whole_episodes=True)
            else:
                self._learner = self._connect(perception)
            self._actor = Actor(env, self._learner, host=self, spec=perception.spec, settings=settings)
            # What it records into files holds pictures, of which any encoder can make features later.
            self._stamped = StampedEnv(self._env, lambda: self._env.stamp_ns)
            self._recorder = Actor(self._stamped, self._learner, host=self, spec=perception.pictures, settings=settings)
        while not stop.is_set():
            executor.spin_once(0.1)
            self._jobs.run_next(stop)

    def _connect(self, perception: Perception, prefix: str = "") -> GraphLearnerLink:
        link = GraphLearnerLink(
            self,
            self._executor,
            spec=perception.spec,
            encoder=perception.weights,
            actor_id=self._actor_id,
            graph_id=self._graph_id,
            prefix=prefix,
            max_lead=self._max_lead if self._lockstep else 0,
            max_backlog=self._max_backlog,
            check=self._jobs.check,
            backend=self._learning.backend,
        )
        self._links.append(link)
        return link

    def _make_pair(self, settings: ActorSettings) -> Pair:
        links = {name: self._connect(each, learner_prefix(name)) for name, each in self._partners.items()}
        numbers = EpisodeNumbers(list(links.values()))
        members = {}
        for name, perception in self._partners.items():
            link, own = links[name], replace(settings, task=name)
            host = PairMemberHost(self, name, link, self, self._diagnostics, self._max_backlog)
            env = perception.wrap(self._env)
            members[name] = Member(Actor(env, link, host, perception.spec, own, numbers), link, host)
        return Pair(members, self._turns, numbers, self, self._learning.updates_before_acting)

    def _make_reset(self, graph: EpisodeGraph, timeout: float) -> Reset:
        settings, notice = self._person_reset, self._notice_reset
        world: WorldReset
        match self._reset_by:
            case "person":
                world = PersonReset(graph, timeout, settings, notice)
            case "hand":
                world = HandReset(graph, timeout, settings, notice, simulated=self._simulated)
            case "motion":
                world = MotionReset(graph, timeout, settings.timeout, notice)
            case _:
                world = SimulatorReset(graph, timeout)
        if self._partner is None:
            return world
        patience = _SIMULATOR_PATIENCE if self._reset_by == "simulator" else settings.timeout
        self._turns = TurnReset(
            graph,
            timeout,
            world,
            truth=self._truth,
            patience=patience,
            configuration=self._person_reset.configuration,
            notice=self._notice_reset,
        )
        return self._turns

    def _notice_reset(self, what: str) -> None:
        self._say_waiting(f"waiting for {what}" if what else "")

    def _say_waiting(self, what: str) -> None:
        """Say what nothing goes on without, on /diagnostics and to whoever has asked for the job."""
        self._diagnostics.set("job", WARN if what else OK, what or "running")
        self._jobs.await_person(what)

    def _finished(self) -> None:
        """No job is running: nor is an episode."""
        self._person.end()
        self._env.idle()

    def _human_expected(self) -> frozenset[EpisodeMode]:
        if not self._scripted:
            return frozenset()
        if not self._interventions:
            return frozenset({EpisodeMode.DEMONSTRATION})
        return frozenset({EpisodeMode.DEMONSTRATION, EpisodeMode.TRAINING})

    def _check_wait(self) -> None:
        """Look whether the environment waits on: who pauses while the arm moves to the start wants it to stop."""
        self._jobs.check()
        if self._partner is None or self._turns.is_interruptible:  # between two turns there is no episode to leave
            self._person.check()

    # What the actor asks of its host

    def check(self) -> None:
        """See `JobHost`: the episode is left when the arm is stopped, or its driver moves nothing."""
        self._jobs.check()
        if self._env.estop:
            raise EpisodeLost("the e-stop was pressed")
        if self._env.driver_problem:
            raise EpisodeLost(self._env.driver_problem)
        if silence := self._silence():
            raise EpisodeLeft(silence)
        self._person.check()

    def wait_until_ready(self) -> None:
        """See `JobHost`: no arm learns that is paused or stopped, has no driver, or one of whose cameras is silent."""
        self._person.end()
        if self._obstacle():
            self._wait_out_obstacles()
        self._person.begin()

    def end_episode(self) -> None:
        """See `JobHost`."""
        self._person.end_by_itself()

    def _obstacle(self) -> str:
        """Why no episode may begin; empty: it may."""
        if self._person.paused:
            return "a person: waiting for episode/pause with data false"
        if self._env.estop:
            return "the e-stop: waiting for arm/reset_estop"
        if self._env.driver_problem:
            return self._env.driver_problem
        if silence := self._silence():
            return silence
        stale = self._env.stale_cameras()
        return f"cameras: waiting for pictures on {', '.join(stale)}" if stale else ""

    def _silence(self) -> str:
        """What is wrong where a learner has been silent for longer than the arm goes on without one; empty: nothing."""
        if self._learner_away == "go_on":
            return ""
        for link in self._links:
            link.pump()  # so that it is asked again
        if (longest := max((link.silence for link in self._links), default=0.0)) <= self._learner_timeout:
            return ""
        learner = self._trainer or "learner/insert"
        return f"the learner: waiting for {learner}, silent for {longest:.0f} s (learner_away is hold)"

    def _wait_out_obstacles(self) -> None:
        """Wait until there is none, whichever comes while another one is there, and say for what."""
        is_idle = False
        while not self._executor.spin_until(lambda: not self._obstacle(), 0.2):
            if self._person.paused and not is_idle:
                self._env.idle()  # others may act meanwhile: lead the arm, put the world back
                is_idle = True
            reason = self._obstacle()
            log(self, LOG_WARN, f"paused by {reason}", throttle=_NOTICE_PERIOD)
            self._say_waiting(f"paused by {reason}")
            self._jobs.check()
        self._say_waiting("")
        self.get_logger().info("going on with a new episode")

    def report(self, env_steps: int, values: dict[str, float]) -> None:
        """See `JobHost`: publish on `metrics`."""
        self._metrics(env_steps, values)
        if self._partners:
            return
        if isinstance(self._learner, TrainerLink):
            self._learner.tell(values)
        backlog = self._learner.backlog
        level = WARN if backlog > self._max_backlog // 2 else OK
        lag, session, acknowledged = self._learner.lag, self._learner.session, self._learner.acknowledged
        link: dict[str, object] = {
            "policy_lag": lag,
            "backlog": backlog,
            "session": session,
            "acknowledged": acknowledged,
        }
        self._diagnostics.set("learner", level, "connected", **link)

    def mind(self, component: str, concern: str) -> None:
        """See `JobHost`: set its status on `/diagnostics`."""
        self._diagnostics.set(component, WARN if concern else OK, concern or "as it should be")

    # Jobs

    def _train(self, handle: ServerGoalHandle) -> Train.Result:
        request = handle.request
        _check_rate("train: success_goal", request.success_goal)
        if self._partners:
            if request.eval_episodes < 1:
                raise ValueError("train: expected at least 1 episode of an evaluation, found 0")
            return self._pair.train(request)
        goal = train_goal(request)
        if request.demonstration_file:
            self._load_demonstrations(Path(request.demonstration_file))
        return train_result(self._actor.train(goal, train_feedback(self._jobs.feedback)))

    def _load_demonstrations(self, path: Path) -> None:
        """Hand the demonstrations of a file to a learner that has none yet."""
        self._jobs.feedback(Train.Feedback(stage="demonstrations"), now=True)
        seed = zlib.crc32(f"{self._seed}/{self._actor_id}/demonstrations".encode())
        chunks = load_demonstrations(path, self._perception, seed, self._jobs.check)
        self._learner.connect()
        if self._learner.totals.demonstrations:
            return
        for chunk in chunks:
            self._jobs.check()
            self._learner.send(chunk)
        self._learner.flush()

    def _evaluate(self, handle: ServerGoalHandle) -> Evaluate.Result:
        request = handle.request
        _check_job("evaluate", request.episodes, request.seed)
        _check_rate("evaluate: stop_below", request.stop_below)
        if self._partners:
            return self._pair.evaluate(request)
        feedback = evaluate_feedback(self._jobs.feedback)
        self._learner.connect()
        if request.settled_at:
            self._learner.settle(request.settled_at)
        result = self._actor.evaluate(
            request.episodes, request.seed, request.stop_below, feedback, first=request.first, part=request.part
        )
        return evaluate_result(result)

    def _record(self, handle: ServerGoalHandle) -> Record.Result:
        request = handle.request
        _check_job("record", request.episodes, request.seed)
        if self._partners:
            return self._pair.record(request)
        feedback = record_feedback(self._jobs.feedback)
        if request.path:
            about = {"rate": 1.0 / self._task.control_period, "task": self._task.name, "seed": request.seed}
            path, pictures = Path(request.path), self._demonstration_pictures
            with DemonstrationFile(path, self._perception.pictures, pictures, about) as file:

                def take(chunk: Chunk) -> None:
                    file.append(chunk, self._stamped.stamps(chunk.first_step, len(chunk)))

                result = self._recorder.record(request.episodes, request.seed, take, feedback)
        else:
            self._learner.connect()
            result = self._actor.record(request.episodes, request.seed, self._learner.send, feedback)
            self._learner.flush()
        return record_result(result, request.path)

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


def _check_job(name: str, episodes: int, seed: int) -> None:
    if episodes < 1 or seed < 0:
        raise ValueError(f"{name}: expected at least 1 episode and a seed from 0, found {episodes} and {seed}")


def _check_rate(name: str, value: float) -> None:
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{name}: expected a success rate from 0 to 1, found {value}")


def main() -> None:
    """Entry point."""
    run_node(ActorNode)
