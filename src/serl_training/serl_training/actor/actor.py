# SPDX-License-Identifier: Apache-2.0
"""What an actor does: demonstrations, online training, evaluation. No ROS: the node gives it robot and learner.

Episodes are numbered over the whole run and their start states are drawn from the number, so an actor that was killed,
or a run that is resumed, goes on exactly where the stored data ends.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from serl_rl.spec import DataError, TransitionSpec
from serl_rl.storage.chunk import Chunk
from serl_rl.success_rate import out_of_reach, wilson_interval

from serl_training.actor.autonomy import Autonomy
from serl_training.actor.behaviours import Behaviour, Exploring, Greedy, Still
from serl_training.actor.episode_numbers import EpisodeNumbers
from serl_training.actor.job import (
    EvaluationResult,
    JobHost,
    RecordResult,
    TrainGoal,
    TrainResult,
    demonstrations_stage,
)
from serl_training.actor.perception import FrameStacker
from serl_training.actor.rollout import ChunkFormat, EpisodeSummary, run_episode
from serl_training.env.episode import (
    EpisodeDiscarded,
    EpisodeLeft,
    EpisodeLost,
    EpisodeMode,
    EpisodeStart,
    Observation,
    episode_seed,
    episode_seeds,
)
from serl_training.link.learner_link import JobFailed, LearnerLink

_log = logging.getLogger(__name__)

_RATE_WINDOW = 20  # episodes
_MOST_ATTEMPTS = 40  # of demonstrating, for each success that is wanted: some tasks are hard for whoever shows them


@dataclass(frozen=True)
class ActorSettings:
    """How an actor acts."""

    actor_id: str
    """Stored with each transition."""
    task: str = ""
    """Which of the environment's tasks its episodes are of; empty: it has one."""
    human_expected: frozenset[EpisodeMode] = frozenset()
    """Episodes in which a synchronous person (the scripted one) answers each step."""
    random_steps: int = 0
    """Env steps of a run with uniformly random actions, before the policy acts."""
    updates_before_acting: int = 0
    """Updates on the demonstrations that the policy must have seen before it acts; it is evaluated then."""
    chunk_size: int = 8
    """Transitions that are handed over at once."""
    whole_episodes: bool = False
    """Whether an episode is handed over when it is over, so that nothing is stored of one whose world breaks."""
    idle_demonstrations_limit: int = 1
    """Demonstrations in a row in which nobody leads, after which it is given up to wait for a person."""
    lost_episodes_limit: int = 5
    """Lost episodes in a row after which a job is given up."""


class Actor:
    """Runs episodes of one environment for one learner."""

    def __init__(
        self,
        env: gym.Env[Observation, NDArray[np.float32]],
        learner: LearnerLink,
        host: JobHost,
        spec: TransitionSpec,
        settings: ActorSettings,
        numbers: EpisodeNumbers | None = None,
    ) -> None:
        """Put an actor together.

        Args:
            env: the robot; raises `EpisodeLost` when a step cannot be finished. Its ``info`` has ``rest_action``, the
                action that changes nothing, where that is not zero.
            learner: takes transitions, gives policies.
            host: says whether to go on, takes named numbers.
            spec: of the transitions.
            settings: how to act.
            numbers: of its episodes, where it shares them with others; None: its own.
        """
        self._numbers = numbers or EpisodeNumbers([learner])
        self._env, self._learner, self._host, self._settings = env, learner, host, settings
        self._spec, self._stack = spec, FrameStacker(spec)
        self._format = ChunkFormat(spec, settings.actor_id, settings.chunk_size)
        self._idle_demonstrations = 0  # in a row
        self._rates: deque[tuple[float, int]] = deque(maxlen=_RATE_WINDOW)  # seconds and steps of episodes
        self._autonomy = Autonomy()
        self.discarded = dict.fromkeys(EpisodeMode, 0)
        """Episodes of which a person has discarded something, by what they were for."""

    def train(self, goal: TrainGoal, feedback: Callable[[str, int, float], None]) -> TrainResult:
        """Record the demonstrations that are missing, then learn online until its evaluations reach the goal.

        Args:
            goal: to reach.
            feedback: takes the stage, the env steps of the run and the last evaluation's success rate.

        Raises:
            Cancelled: the host said so.
            JobFailed: the graph does not work.
        """
        started = time.monotonic()
        rate = 0.0
        feedback("waiting", 0, rate)
        self._learner.connect()
        missing = goal.demonstrations - self._learner.totals.demonstrations
        if missing > 0:
            recorded = demonstrations_stage(feedback, missing, self._learner.totals.env_steps)
            self.record(missing, goal.seed, self._learner.send, recorded)
            self._learner.flush()

        exploring = self.exploring(goal.seed)
        self._rates.clear()
        next_evaluation = (self._learner.totals.env_steps // goal.eval_every + 1) * goal.eval_every
        if self._settings.updates_before_acting:
            feedback("pretraining", self._learner.totals.env_steps, rate)
            self._learner.await_updates(self._settings.updates_before_acting)
            next_evaluation = self._learner.totals.env_steps
        while True:
            env_steps = self._learner.totals.env_steps
            if goal.eval_episodes and env_steps >= next_evaluation:
                feedback("evaluation", env_steps, rate)
                self._learner.settle()  # what reaches the goal is what the run is left with
                for seed in goal.evaluation_seeds(env_steps):
                    result = self.evaluate(goal.eval_episodes, seed, goal.success_goal, lambda _done, _successes: None)
                    rate = result.rate
                    if not result.complete or rate < goal.success_goal:
                        break
                else:
                    self._learner.flush()
                    return TrainResult(True, env_steps, env_steps, rate, time.monotonic() - started)
                next_evaluation = (env_steps // goal.eval_every + 1) * goal.eval_every
                self._rates.clear()
            if env_steps >= goal.max_env_steps:
                self._learner.flush()
                return TrainResult(False, env_steps, 0, rate, time.monotonic() - started)
            feedback("training", env_steps, rate)
            self.train_episode(exploring, goal.seed)

    def evaluate(
        self,
        episodes: int,
        seed: int,
        stop_below: float,
        feedback: Callable[[int, int], None],
        *,
        first: int = 0,
        part: bool = False,
    ) -> EvaluationResult:
        """Run the deterministic policy of this moment on start states of its own.

        Args:
            episodes: to run.
            seed: of the start states.
            stop_below: stop once this success rate cannot be reached any more; 0 never stops.
            feedback: takes episodes done and successes.
            first: number of the first episode in the row of starts that the seed gives: others run those before it.
            part: it is a part of an evaluation, which is reported by whoever joins the parts.

        Raises:
            Cancelled: the host said so.
            JobFailed: there is no policy, or the graph does not work.
        """
        version, greedy = self._learner.policy_version, self.greedy()
        discarded = self.discarded[EpisodeMode.EVALUATION]
        lengths: list[int] = []
        done = 0
        for start_seed in islice(episode_seeds(seed, "evaluation"), first, first + episodes):
            summary = self.evaluate_episode(greedy, start_seed)
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
            discarded=self.discarded[EpisodeMode.EVALUATION] - discarded,
        )
        if not part:
            self._host.report(self._learner.totals.env_steps, result.numbers())
        return result

    def record(
        self, episodes: int, seed: int, take: Callable[[Chunk], None], feedback: Callable[[int, int], None]
    ) -> RecordResult:
        """Let the person who leads demonstrate until enough episodes succeeded.

        Args:
            episodes: successful ones that are wanted.
            seed: of the start states.
            take: gets the chunks of each successful episode, once it has ended.
            feedback: takes successes and attempts.

        Raises:
            Cancelled: the host said so.
            JobFailed: nobody leads, or success stays away.
        """
        done = attempts = transitions = 0
        first_episode = self._numbers.next_stored()
        while done < episodes:
            stored = self.demonstrate(first_episode + attempts, seed, take)
            attempts += 1
            done += stored > 0
            transitions += stored
            feedback(done, attempts)
            if attempts >= most_attempts(episodes):
                raise JobFailed(f"record: only {done} of {attempts} demonstrations succeeded; {episodes} were wanted")
        return RecordResult(done, attempts, transitions)

    def exploring(self, seed: int) -> Exploring:
        """What acts while the run learns, with noise that `seed` and the env steps so far give."""
        noise = np.random.default_rng([seed, self._learner.totals.env_steps, *self._settings.actor_id.encode()])
        return Exploring(self._learner, self._stack, noise, self._settings.random_steps)

    def greedy(self) -> Greedy:
        """The policy of this moment, without noise.

        Raises:
            JobFailed: there is none.
        """
        return Greedy(self._learner.policy, self._learner.policy_version, self._stack)

    def demonstrate(self, number: int, seed: int, take: Callable[[Chunk], None]) -> int:
        """Let the person who leads demonstrate once.

        Args:
            number: of the episode.
            seed: of the run's start states.
            take: gets the chunks of the episode once it has ended, if it succeeded.

        Returns:
            the transitions that were taken, 0 where it failed.

        Raises:
            Cancelled: the host said so.
            JobFailed: nobody leads.
        """
        start = self._start(EpisodeMode.DEMONSTRATION, number, episode_seed(seed, "demonstration", number))
        chunks: list[Chunk] = []
        summary = self._episode(start, Still(self._spec.action_dim), on_chunk=chunks.append)
        self._idle_demonstrations = 0 if summary.interventions else self._idle_demonstrations + 1
        if self._idle_demonstrations:
            limit = self._settings.idle_demonstrations_limit
            if self._idle_demonstrations >= limit:
                episodes = "a whole episode" if limit == 1 else f"{limit} episodes in a row"
                raise JobFailed(
                    f"record: nobody led during {episodes}; start a teleop node (launch argument teleop:=scripted)"
                )
            _log.warning("demonstration %d: nobody led; take the device and show the task", number)
        if not summary.success or not summary.interventions:
            return 0
        chunks = _last_episode(chunks)
        for chunk in chunks:
            take(chunk)
        return sum(map(len, chunks))

    def evaluate_episode(self, greedy: Greedy, start_seed: int) -> EpisodeSummary:
        """Run one episode that is not stored. Raises as `evaluate`."""
        number = self._numbers.next_evaluation()
        return self._episode(self._start(EpisodeMode.EVALUATION, number, start_seed), greedy)

    def train_episode(self, exploring: Exploring, seed: int) -> EpisodeSummary:
        """Run one episode that is learned from. Raises as `train`."""
        number = self._numbers.next_stored()
        start_seed = episode_seed(seed, f"training/{self._settings.actor_id}", number)
        before = time.monotonic()

        def before_step() -> None:
            self._host.check()
            self._learner.throttle()

        summary = self._episode(
            self._start(EpisodeMode.TRAINING, number, start_seed),
            exploring,
            on_chunk=self._learner.send,
            on_discard=self._learner.discard,
            before_step=before_step,
            stored_as_it_goes=True,
        )
        self._rates.append((time.monotonic() - before, summary.length))
        seconds = sum(duration for duration, _ in self._rates)
        self._autonomy.add(summary)
        self._host.report(
            self._learner.totals.env_steps,
            {
                "train/episode_return": summary.total_reward,
                "train/episode_length": float(summary.length),
                "train/success": float(summary.success),
                "train/intervention_rate": summary.interventions / summary.length,
                "train/env_steps_per_s": sum(length for _, length in self._rates) / max(seconds, 1e-9),
                "train/policy_lag": float(self._learner.lag),
                **self._autonomy.numbers(),
            },
        )
        self._host.mind("autonomy", self._autonomy.concern())
        if warning := self._autonomy.warning():
            _log.warning("%s", f"{self._settings.task}: {warning}" if self._settings.task else warning)
        return summary

    def _start(self, mode: EpisodeMode, number: int, seed: int) -> EpisodeStart:
        human_expected = mode in self._settings.human_expected
        return EpisodeStart(mode, number, seed, human_expected, self._settings.task)

    def _episode(
        self,
        start: EpisodeStart,
        behaviour: Behaviour,
        *,
        on_chunk: Callable[[Chunk], None] = lambda _chunk: None,
        on_discard: Callable[[int, int], None] = lambda _number, _first_step: None,
        before_step: Callable[[], None] | None = None,
        stored_as_it_goes: bool = False,
    ) -> EpisodeSummary:
        """Run one episode; start anew when it is lost, or when what was measured in it is nothing to learn from.

        Where chunks are stored as the episode goes, what a lost episode has left behind keeps its number, and the next
        try gets the next one.
        """
        name = start.mode.name.lower()
        last: Exception | None = None
        lost = 0
        while lost < self._settings.lost_episodes_limit:
            if last is not None and stored_as_it_goes:
                start = replace(start, number=self._numbers.next_stored())
            self._host.wait_until_ready()
            try:
                return run_episode(
                    self._env,
                    behaviour,
                    start,
                    self._format,
                    on_chunk=on_chunk,
                    on_discard=partial(on_discard, start.number),
                    before_step=before_step or self._host.check,
                    at_end=self._host.end_episode,
                    whole=self._settings.whole_episodes,
                )
            except (EpisodeLost, DataError) as error:
                _log.warning("%s episode %d is lost: %s", name, start.number, error)
                last = error
                lost += not isinstance(error, EpisodeLeft)
                self.discarded[start.mode] += isinstance(error, EpisodeDiscarded)
        raise JobFailed(
            f"{self._settings.lost_episodes_limit} {name} episodes in a row were lost; the last one: {last}"
        )


def most_attempts(successes: int) -> int:
    """Demonstrations after which it is given up to wait for that number of successful ones."""
    return 10 + _MOST_ATTEMPTS * successes


def _last_episode(chunks: list[Chunk]) -> list[Chunk]:
    """Leave out what an episode that was lost and started anew has left behind."""
    begin = max(index for index, chunk in enumerate(chunks) if chunk.first_step == 0)
    return chunks[begin:]
