# SPDX-License-Identifier: Apache-2.0
"""What an actor does with two tasks that undo each other: both are shown, learned and evaluated by turns.

Each task has an actor and a learner of its own. Here is what they share: whose turn it is, when it is evaluated, and
when the two of them are good enough. No ROS.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol

from serl_rl.success_rate import out_of_reach, wilson_interval

from serl_training.actor.actor import Actor, most_attempts
from serl_training.actor.autonomy import Autonomy
from serl_training.actor.episode_numbers import EpisodeNumbers
from serl_training.actor.job import (
    EvaluationResult,
    JobHost,
    RecordResult,
    TrainGoal,
    TrainResult,
    demonstrations_stage,
)
from serl_training.env.episode import EpisodeMode, episode_seeds
from serl_training.link.learner_link import JobFailed, LearnerLink

_RATE_WINDOW = 20  # episodes


class Turns(Protocol):
    """Knows whose turn it is."""

    resets: int
    """Episodes for which somebody had to reset the world."""

    def first(self) -> str:
        """The name of the task that is to be done from where things lie."""

    def after(self, task: str, success: bool) -> str:
        """The name of the task that is to be done after an episode of `task`."""


@dataclass
class Tally:
    """How episodes of one task went."""

    episodes: int = 0
    lengths: list[int] = field(default_factory=list)
    """Steps of those that succeeded."""

    @property
    def successes(self) -> int:
        """Episodes that succeeded."""
        return len(self.lengths)


@dataclass(frozen=True)
class PairEvaluation:
    """Successes of two deterministic policies that took turns."""

    both: EvaluationResult
    """Results of all episodes, whichever task they were of; the version is the sum of both."""
    tallies: Mapping[str, Tally]
    """Episodes by task."""
    resets: int
    """Episodes for which somebody had to reset the world."""


@dataclass(frozen=True)
class PairTraining:
    """How training of two tasks ended."""

    both: TrainResult
    """Env steps are those of both."""
    tallies: Mapping[str, Tally]
    """Episodes of the last evaluation, by task."""
    resets: int
    """Episodes of all kinds for which somebody had to reset the world."""


@dataclass(frozen=True)
class Member:
    """One of the two tasks: who acts and who learns."""

    actor: Actor
    learner: LearnerLink
    host: JobHost
    """Takes what is reported of this task."""


class Pair:
    """Runs episodes of two tasks by turns."""

    def __init__(
        self,
        members: Mapping[str, Member],
        turns: Turns,
        numbers: EpisodeNumbers,
        host: JobHost,
        updates_before_acting: int = 0,
    ) -> None:
        """Put a pair together.

        Args:
            members: the two tasks, by name.
            turns: says whose turn it is.
            numbers: of the episodes of both.
            host: says whether to go on, takes what is reported of both together.
            updates_before_acting: as of `ActorSettings`.
        """
        self._members, self._turns, self._numbers, self._host = members, turns, numbers, host
        self._updates_before_acting = updates_before_acting
        self._turn: str | None = None
        self._autonomy = Autonomy()  # of both together

    @property
    def env_steps(self) -> int:
        """Online env steps of both tasks."""
        return sum(member.learner.totals.env_steps for member in self._members.values())

    @property
    def _discarded(self) -> int:
        """Episodes of evaluations that a person has discarded."""
        return sum(member.actor.discarded[EpisodeMode.EVALUATION] for member in self._members.values())

    def connect(self) -> None:
        """Wait for both learners."""
        for member in self._members.values():
            member.learner.connect()

    def train(self, goal: TrainGoal, feedback: Callable[[str, int, float], None]) -> PairTraining:
        """Record the demonstrations that each task lacks, then learn both online until evaluations reach the goal.

        Args:
            goal: to reach; demonstrations are those of each task, env steps and evaluation episodes those of both.
            feedback: takes the stage, the env steps of both and the last evaluation's success rate.

        Raises:
            Cancelled: the host said so.
            JobFailed: the graph does not work.
        """
        started, resets, rate = time.monotonic(), self._turns.resets, 0.0
        tallies: Mapping[str, Tally] = {name: Tally() for name in self._members}

        def ended(reached: bool) -> PairTraining:
            self._flush()
            steps = self.env_steps
            seconds = time.monotonic() - started
            both = TrainResult(reached, steps, steps if reached else 0, rate, seconds)
            return PairTraining(both, tallies, self._turns.resets - resets)

        feedback("waiting", 0, rate)
        self.connect()
        if any(member.learner.totals.demonstrations < goal.demonstrations for member in self._members.values()):
            recorded = demonstrations_stage(feedback, self._missing(goal.demonstrations), self.env_steps)
            self._demonstrate(goal.demonstrations, goal.seed, recorded)
        exploring = {name: member.actor.exploring(goal.seed) for name, member in self._members.items()}
        rates: deque[tuple[float, int]] = deque(maxlen=_RATE_WINDOW)  # seconds and steps of episodes
        next_evaluation = (self.env_steps // goal.eval_every + 1) * goal.eval_every
        if self._updates_before_acting:
            feedback("pretraining", self.env_steps, rate)
            for member in self._members.values():
                member.learner.await_updates(self._updates_before_acting)
            next_evaluation = self.env_steps
        while True:
            if self.env_steps >= next_evaluation:
                feedback("evaluation", self.env_steps, rate)
                for member in self._members.values():
                    member.learner.settle()  # what reaches the goal is what the run is left with
                for seed in goal.evaluation_seeds(self.env_steps):
                    result = self.evaluate(goal.eval_episodes, seed, goal.success_goal, lambda _done, _successes: None)
                    rate, tallies = result.both.rate, result.tallies
                    if not result.both.complete or rate < goal.success_goal:
                        break
                else:
                    return ended(True)
                next_evaluation = (self.env_steps // goal.eval_every + 1) * goal.eval_every
            if self.env_steps >= goal.max_env_steps:
                return ended(False)
            feedback("training", self.env_steps, rate)
            before, name = time.monotonic(), self._take_turn()
            summary = self._members[name].actor.train_episode(exploring[name], goal.seed)
            self._pass_turn(name, summary.success)
            rates.append((time.monotonic() - before, summary.length))
            self._autonomy.add(summary)
            self._host.report(
                self.env_steps,
                {
                    "train/success": float(summary.success),
                    "train/intervention_rate": summary.interventions / summary.length,
                    "train/env_steps_per_s": sum(steps for _, steps in rates) / sum(seconds for seconds, _ in rates),
                    "train/resets": float(self._turns.resets),
                    **self._autonomy.numbers(),
                },
            )

    def evaluate(
        self, episodes: int, seed: int, stop_below: float, feedback: Callable[[int, int], None]
    ) -> PairEvaluation:
        """Let the two deterministic policies of this moment take turns.

        Args:
            episodes: to run, of whichever task.
            seed: of what is random about the starts.
            stop_below: stop once this success rate of all episodes cannot be reached any more; 0 never stops.
            feedback: takes episodes done and successes.

        Raises:
            Cancelled: the host said so.
            JobFailed: there is no policy, or the graph does not work.
        """
        resets, discarded = self._turns.resets, self._discarded
        policies = {name: member.actor.greedy() for name, member in self._members.items()}
        version = sum(member.learner.policy_version for member in self._members.values())
        tallies = {name: Tally() for name in self._members}
        done = successes = 0
        for start_seed in islice(episode_seeds(seed, "evaluation"), episodes):
            name = self._take_turn()
            summary = self._members[name].actor.evaluate_episode(policies[name], start_seed)
            done += 1
            successes += summary.success
            tallies[name].episodes += 1
            if summary.success:
                tallies[name].lengths.append(summary.length)
            self._pass_turn(name, summary.success)
            feedback(done, successes)
            if done < episodes and stop_below > 0.0 and out_of_reach(successes, done, episodes, stop_below):
                break
        for name, tally in tallies.items():
            if not tally.episodes:
                continue
            member = self._members[name]
            member.host.report(member.learner.totals.env_steps, _numbers(tally))
        together = Tally(done, [length for tally in tallies.values() for length in tally.lengths])
        counted = {"eval/resets": self._turns.resets - resets, "eval/discarded": self._discarded - discarded}
        self._host.report(self.env_steps, _numbers(together) | {name: float(n) for name, n in counted.items()})
        both = EvaluationResult(
            episodes=done,
            successes=successes,
            interval=wilson_interval(successes, done),
            mean_length=_mean_length(together),
            policy_version=version,
            complete=done == episodes,
            discarded=self._discarded - discarded,
        )
        return PairEvaluation(both, tallies, self._turns.resets - resets)

    def record(self, episodes: int, seed: int, feedback: Callable[[int, int], None]) -> RecordResult:
        """Let the person who leads demonstrate until each task has so many more successes; the learners get them.

        Raises:
            Cancelled: the host said so.
            JobFailed: nobody leads, or success stays away.
        """
        self.connect()
        most = max(member.learner.totals.demonstrations for member in self._members.values())
        return self._demonstrate(most + episodes, seed, feedback)

    def _demonstrate(self, wanted: int, seed: int, feedback: Callable[[int, int], None]) -> RecordResult:
        """Until each learner has `wanted` demonstrations. One more of a task that has them is taken, too."""
        members = self._members
        missing = self._missing(wanted)
        done = attempts = transitions = 0
        while any(member.learner.totals.demonstrations < wanted for member in members.values()):
            name = self._take_turn()
            member = members[name]
            stored = member.actor.demonstrate(self._numbers.next_attempt(), seed, member.learner.send)
            attempts += 1
            done += stored > 0
            transitions += stored
            if stored:
                member.learner.flush()  # the learner's total is what is counted
            self._pass_turn(name, stored > 0)
            feedback(done, attempts)
            if attempts >= most_attempts(missing):
                raise JobFailed(f"record: only {done} of {attempts} demonstrations succeeded; {missing} were wanted")
        return RecordResult(done, attempts, transitions)

    def _missing(self, wanted: int) -> int:
        """Demonstrations that the learners lack until each has `wanted`."""
        return sum(max(0, wanted - member.learner.totals.demonstrations) for member in self._members.values())

    def _take_turn(self) -> str:
        """The name of the task whose turn it is."""
        if self._turn is None:
            self._turn = self._turns.first()
        return self._turn

    def _pass_turn(self, task: str, success: bool) -> None:
        self._turn = None  # whatever is raised next, where things lie says whose turn it is
        self._host.wait_until_ready()
        self._turn = self._turns.after(task, success)

    def _flush(self) -> None:
        for member in self._members.values():
            member.learner.flush()


def _mean_length(tally: Tally) -> float:
    return sum(tally.lengths) / len(tally.lengths) if tally.lengths else 0.0


def _numbers(tally: Tally) -> dict[str, float]:
    """What is reported of an evaluation, under the names of `Actor.evaluate`."""
    low, high = wilson_interval(tally.successes, tally.episodes)
    return {
        "eval/success_rate": tally.successes / max(1, tally.episodes),
        "eval/interval_low": low,
        "eval/interval_high": high,
        "eval/mean_length": _mean_length(tally),
        "eval/episodes": float(tally.episodes),
    }
