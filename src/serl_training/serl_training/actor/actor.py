# SPDX-License-Identifier: Apache-2.0
"""What an actor does: demonstrations, online training, evaluation. No ROS: the node gives it robot and learner.

Episodes are numbered over the whole run and their start states are drawn from the number, so an actor that was killed,
or a run that is resumed, goes on exactly where the stored data ends.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from serl_rl.policy.snapshot import NumpyPolicy
from serl_rl.spec import DataError, TransitionSpec
from serl_rl.storage.chunk import Chunk
from serl_rl.success_rate import out_of_reach, wilson_interval

from serl_training.actor.perception import FrameStacker
from serl_training.env.rollout import EpisodeLost, EpisodeSummary, Observation, episode_seed, episode_seeds, run_episode

_log = logging.getLogger(__name__)

_RATE_WINDOW = 20  # episodes
FIRST_EVALUATION = 2**40
"""Number of the first evaluation episode: those are not stored, and stay clear of those that are."""


class Cancelled(Exception):
    """The job was cancelled or the process is asked to end."""


class JobFailed(RuntimeError):
    """A job cannot go on: says why and what to do."""


@dataclass(frozen=True)
class LearnerTotals:
    """What the learner has stored in this run."""

    env_steps: int = 0
    demonstrations: int = 0
    episodes: int = 0


class Learner(Protocol):
    """The learner as an actor sees it."""

    @property
    def totals(self) -> LearnerTotals:
        """What is stored or on its way, over all actors."""

    @property
    def policy(self) -> NumpyPolicy:
        """The newest policy."""

    @property
    def policy_version(self) -> int:
        """Version of the newest policy."""

    @property
    def lag(self) -> int:
        """Online env steps that the newest policy has not been trained for."""

    def connect(self) -> None:
        """Wait until the learner has told its totals and sent a policy."""

    def send(self, chunk: Chunk) -> None:
        """Hand over a chunk; it arrives in order, exactly once."""

    def await_updates(self, count: int) -> None:
        """Tell the learner that demonstrations are complete; wait for a policy with so many updates behind it."""

    def throttle(self) -> None:
        """Wait while the actor is too far ahead of the learner."""

    def flush(self) -> None:
        """Wait until everything sent is acknowledged."""


@dataclass(frozen=True)
class TrainGoal:
    """What `Actor.train` should reach; fields as in the Train action."""

    demonstrations: int
    max_env_steps: int
    eval_every: int
    eval_episodes: int
    success_goal: float
    seed: int

    def __post_init__(self) -> None:
        if self.max_env_steps < 1 or self.eval_every < 1 or self.eval_episodes < 1:
            raise ValueError("train: max_env_steps, eval_every and eval_episodes must be at least 1")
        if not 0.0 <= self.success_goal <= 1.0:
            raise ValueError(f"train: success_goal must be in [0, 1], found {self.success_goal}")


@dataclass(frozen=True)
class TrainResult:
    """How training ended."""

    reached: bool
    env_steps: int
    env_steps_to_goal: int
    success_rate: float
    wall_seconds: float


@dataclass(frozen=True)
class EvaluationResult:
    """Successes of the deterministic policy; the interval is Wilson's, 95 %."""

    episodes: int
    successes: int
    interval: tuple[float, float]
    mean_length: float
    policy_version: int
    complete: bool
    """False when it was stopped because the wanted rate was out of reach."""

    @property
    def rate(self) -> float:
        """Share of successful episodes."""
        return self.successes / max(1, self.episodes)


class _Exploring:
    """Uniformly random actions for the first steps of a run, then the newest policy with its own noise."""

    def __init__(
        self, learner: Learner, stack: FrameStacker, rng: np.random.Generator, random_steps: int, action_dim: int
    ) -> None:
        self._learner, self._stack, self._rng = learner, stack, rng
        self._random_steps, self._action_dim = random_steps, action_dim

    def reset(self) -> None:
        self._stack.reset()
        self._learner.policy.reset()

    def act(self, observation: Observation) -> tuple[NDArray[np.float32], int]:
        observation = self._stack(observation)
        if self._learner.totals.env_steps < self._random_steps:
            return self._rng.uniform(-1.0, 1.0, self._action_dim).astype(np.float32), self._learner.policy_version
        return self._learner.policy.act(observation, deterministic=False, rng=self._rng), self._learner.policy_version


class _Greedy:
    """One policy, without noise."""

    def __init__(self, policy: NumpyPolicy, stack: FrameStacker, version: int) -> None:
        self._policy, self._stack, self._version = policy, stack, version

    def reset(self) -> None:
        self._stack.reset()
        self._policy.reset()

    def act(self, observation: Observation) -> tuple[NDArray[np.float32], int]:
        return self._policy.act(self._stack(observation), deterministic=True, rng=None), self._version


class _Still:
    """No motion; the person leads. When they let go the arm keeps what was commanded last, the gripper too."""

    def __init__(self, action_dim: int) -> None:
        self._action = np.zeros(action_dim, np.float32)

    def reset(self) -> None:
        self._action = np.zeros_like(self._action)

    def heed(self, info: dict[str, Any]) -> None:
        """Take over from the environment which action changes nothing."""
        self._action = np.asarray(info.get("rest_action", self._action), np.float32)

    def act(self, observation: Observation) -> tuple[NDArray[np.float32], int]:
        return self._action, 0


class Actor:
    """Runs episodes of one environment for one learner."""

    def __init__(
        self,
        env: gym.Env[Observation, NDArray[np.float32]],
        learner: Learner,
        *,
        modes: Mapping[str, Any],
        spec: TransitionSpec,
        actor_id: str,
        report: Callable[[int, dict[str, float]], None],
        check: Callable[[], None],
        ready: Callable[[], None] = lambda: None,
        random_steps: int = 0,
        updates_before_acting: int = 0,
        chunk_size: int = 8,
        lost_episodes_limit: int = 5,
    ) -> None:
        """Put an actor together.

        Args:
            env: the robot; raises `EpisodeLost` when a step cannot be finished. Its ``info`` has ``rest_action``, the
                action that changes nothing, where that is not zero.
            learner: takes transitions, gives policies.
            modes: reset options for "demonstration", "training" and "evaluation" episodes.
            spec: of the transitions.
            actor_id: stored with each transition.
            report: takes the env steps and named numbers.
            check: called often; raises `Cancelled` to end the job, `EpisodeLost` to leave the episode.
            ready: called before each episode; waits until the arm may move.
            random_steps: env steps of a run with uniformly random actions, before the policy acts.
            updates_before_acting: updates on the demonstrations that the policy must have seen before it acts; it is
                evaluated then.
            chunk_size: transitions handed over at once.
            lost_episodes_limit: give up after so many lost episodes in a row.
        """
        self._env, self._learner, self._modes = env, learner, modes
        self._spec, self._stack = spec, FrameStacker(spec)
        self._actor_id, self._report, self._check, self._ready = actor_id, report, check, ready
        self._random_steps, self._chunk_size, self._lost_limit = random_steps, chunk_size, lost_episodes_limit
        self._updates_before_acting = updates_before_acting
        self._rates: deque[tuple[float, int]] = deque(maxlen=_RATE_WINDOW)
        self._evaluation_number = FIRST_EVALUATION

    def train(self, goal: TrainGoal, feedback: Callable[[str, int, float], None]) -> TrainResult:
        """Record the demonstrations that are missing, then learn online until an evaluation reaches the goal.

        Raises:
            Cancelled: `check` said so.
            JobFailed: the graph does not work.
        """
        started = time.monotonic()
        rate = 0.0
        feedback("waiting", 0, rate)
        self._learner.connect()
        missing = goal.demonstrations - self._learner.totals.demonstrations
        if missing > 0:
            feedback("demonstrations", self._learner.totals.env_steps, rate)
            self.record(missing, goal.seed, self._learner.send, lambda _done, _tried: None)
            self._learner.flush()

        noise = np.random.default_rng([goal.seed, self._learner.totals.env_steps, *self._actor_id.encode()])
        exploring = _Exploring(self._learner, self._stack, noise, self._random_steps, self._spec.action_dim)
        self._rates.clear()
        next_evaluation = (self._learner.totals.env_steps // goal.eval_every + 1) * goal.eval_every
        if self._updates_before_acting:
            feedback("pretraining", self._learner.totals.env_steps, rate)
            self._learner.await_updates(self._updates_before_acting)
            next_evaluation = self._learner.totals.env_steps
        while True:
            env_steps = self._learner.totals.env_steps
            if env_steps >= next_evaluation:
                feedback("evaluation", env_steps, rate)
                result = self.evaluate(
                    goal.eval_episodes,
                    episode_seed(goal.seed, "evaluation", env_steps),
                    goal.success_goal,
                    lambda _done, _successes: None,
                )
                rate = result.rate
                if result.complete and rate >= goal.success_goal:
                    self._learner.flush()
                    return TrainResult(True, env_steps, env_steps, rate, time.monotonic() - started)
                next_evaluation = (env_steps // goal.eval_every + 1) * goal.eval_every
                self._rates.clear()
            if env_steps >= goal.max_env_steps:
                self._learner.flush()
                return TrainResult(False, env_steps, 0, rate, time.monotonic() - started)
            feedback("training", env_steps, rate)
            self._train_episode(exploring, goal.seed)

    def evaluate(
        self, episodes: int, seed: int, stop_below: float, feedback: Callable[[int, int], None]
    ) -> EvaluationResult:
        """Run the deterministic policy of this moment on start states of its own.

        Args:
            episodes: to run.
            seed: of the start states.
            stop_below: stop once this success rate cannot be reached any more; 0 never stops.
            feedback: takes episodes done and successes.
        """
        version = self._learner.policy_version
        greedy = _Greedy(self._learner.policy, self._stack, version)
        lengths: list[int] = []
        done = 0
        for start in islice(episode_seeds(seed, "evaluation"), episodes):
            summary = self._episode("evaluation", start, self._evaluation_number, greedy)
            self._evaluation_number += 1
            done += 1
            if summary.success:
                lengths.append(summary.length)
            feedback(done, len(lengths))
            if done < episodes and stop_below > 0.0 and out_of_reach(len(lengths), done, episodes, stop_below):
                break
        result = EvaluationResult(
            episodes=done,
            successes=len(lengths),
            interval=wilson_interval(len(lengths), done),
            mean_length=float(np.mean(lengths)) if lengths else 0.0,
            policy_version=version,
            complete=done == episodes,
        )
        self._report(
            self._learner.totals.env_steps,
            {
                "eval/success_rate": result.rate,
                "eval/interval_low": result.interval[0],
                "eval/interval_high": result.interval[1],
                "eval/mean_length": result.mean_length,
                "eval/episodes": float(done),
            },
        )
        return result

    def record(
        self, episodes: int, seed: int, take: Callable[[Chunk], None], feedback: Callable[[int, int], None]
    ) -> tuple[int, int, int]:
        """Let the person who leads demonstrate until enough episodes succeeded; only those are handed to `take`.

        Returns:
            successful episodes, attempts, transitions handed over.

        Raises:
            JobFailed: nobody leads, or success stays away.
        """
        done = attempts = transitions = 0
        first_episode = self._learner.totals.episodes + 1
        while done < episodes:
            chunks: list[Chunk] = []
            number = first_episode + attempts
            start = episode_seed(seed, "demonstration", number)
            still = _Still(self._spec.action_dim)
            summary = self._episode(
                "demonstration", start, number, still, chunks.append, on_info=still.heed, demonstration=True
            )
            attempts += 1
            if summary.interventions == 0:
                raise JobFailed(
                    "record: nobody led during a whole episode; start a teleop node (launch argument teleop:=scripted)"
                )
            if summary.success:
                done += 1
                chunks = _last_episode(chunks)
                transitions += sum(len(chunk) for chunk in chunks)
                _each(take, chunks)
            feedback(done, attempts)
            if attempts >= 10 + 5 * episodes:
                raise JobFailed(f"record: only {done} of {attempts} demonstrations succeeded; {episodes} were wanted")
        return done, attempts, transitions

    def _train_episode(self, exploring: _Exploring, seed: int) -> None:
        number = self._learner.totals.episodes + 1
        before = time.monotonic()

        def before_step() -> None:
            self._check()
            self._learner.throttle()

        summary = self._episode(
            "training",
            episode_seed(seed, f"training/{self._actor_id}", number),
            number,
            exploring,
            self._learner.send,
            before_step,
        )
        self._rates.append((time.monotonic() - before, summary.length))
        seconds = sum(duration for duration, _ in self._rates)
        self._report(
            self._learner.totals.env_steps,
            {
                "train/episode_return": summary.total_reward,
                "train/episode_length": float(summary.length),
                "train/success": float(summary.success),
                "train/intervention_rate": summary.interventions / summary.length,
                "train/env_steps_per_s": sum(length for _, length in self._rates) / max(seconds, 1e-9),
                "train/policy_lag": float(self._learner.lag),
            },
        )

    def _episode(
        self,
        mode: str,
        seed: int,
        number: int,
        behaviour: Any,
        on_chunk: Callable[[Chunk], None] = lambda _chunk: None,
        before_step: Callable[[], None] | None = None,
        *,
        on_info: Callable[[dict[str, Any]], None] = lambda _info: None,
        demonstration: bool = False,
    ) -> EpisodeSummary:
        """One episode; starts anew when it is lost, or when what was measured in it is nothing to learn from."""

        def take(chunk: Chunk) -> None:
            chunk.check(self._spec)
            on_chunk(chunk)

        last: Exception | None = None
        for attempt in range(self._lost_limit):
            self._ready()
            try:
                return run_episode(
                    self._env,
                    behaviour,
                    seed=seed,
                    options={**self._modes[mode], "episode": number},
                    before_step=before_step or self._check,
                    on_chunk=take,
                    on_info=on_info,
                    actor_id=self._actor_id,
                    demonstration=demonstration,
                    chunk_size=self._chunk_size,
                    encoder=self._spec.encoder,
                    frame_stack=self._spec.frame_stack,
                    meaning=self._spec.meaning_hash,
                )
            except (EpisodeLost, DataError) as error:
                _log.warning("%s episode %d is lost: %s", mode, number, error)
                last = error
                if attempt + 1 < self._lost_limit and on_chunk == self._learner.send:
                    number = self._learner.totals.episodes + 1
        raise JobFailed(f"{self._lost_limit} {mode} episodes in a row were lost; the last one: {last}")


def _last_episode(chunks: list[Chunk]) -> list[Chunk]:
    """Leave out what an episode that was lost and started anew has left behind."""
    start = max(index for index, chunk in enumerate(chunks) if chunk.first_step == 0)
    return chunks[start:]


def _each(take: Callable[[Chunk], None], chunks: Iterable[Chunk]) -> None:
    for chunk in chunks:
        take(chunk)
