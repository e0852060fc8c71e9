# SPDX-License-Identifier: Apache-2.0
"""The actor's jobs on a world that is one number: move it to the goal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from line_learner import GOAL, Host, Memory, Policy, cancel_after, no_feedback
from serl_rl.storage.chunk import Chunk, TransitionSpec
from serl_training.actor.actor import Actor, ActorSettings
from serl_training.actor.job import Cancelled, TrainGoal
from serl_training.env.episode import EpisodeDiscarded, EpisodeLeft, EpisodeLost, EpisodeMode, WorldBroken
from serl_training.link.learner_link import JobFailed

HORIZON = 10


class Line(gym.Env):
    """x starts at the seed's place; success when it is above 1. A person leads in demonstrations if there is one."""

    observation_space = gym.spaces.Dict({"state": gym.spaces.Box(-10.0, 10.0, (1,), np.float32)})
    action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, person: bool = True) -> None:
        self.person = person
        self.lose_next = 0
        self.episodes: list[tuple[EpisodeMode, int, int]] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict, dict]:
        options = options or {}
        self.mode, self.steps, self.x = options["mode"], 0, 0.0
        self.episodes.append((self.mode, options["episode"], seed or 0))
        return {"state": np.array([self.x], np.float32)}, {}

    def step(self, action: np.ndarray) -> tuple[dict, float, bool, bool, dict]:
        if self.lose_next:
            self.lose_next -= 1
            raise EpisodeLost("arm/executed missing")
        leads = self.person and self.mode == EpisodeMode.DEMONSTRATION
        executed = np.ones(1, np.float32) if leads else action
        self.steps += 1
        self.x += 0.3 * float(executed[0])
        success = self.x > 1.0
        info = {"executed_action": executed, "intervention": leads, "success": success}
        state = {"state": np.array([self.x], np.float32)}
        return state, float(success), success, not success and self.steps >= HORIZON, info


def make(
    env: Line,
    learner: Memory,
    check: Callable[[], None] = lambda: None,
    end: Callable[[], None] = lambda: None,
    **settings: Any,
) -> tuple[Actor, list[dict[str, float]]]:
    host = Host(check, end)
    spec = TransitionSpec.from_spaces(env.observation_space, env.action_space)
    actor = Actor(env, learner, host, spec, ActorSettings("a", chunk_size=4, **settings))  # type: ignore[arg-type]
    return actor, host.reports


def test_training_ends_when_an_evaluation_reaches_the_goal() -> None:
    env, learner = Line(), Memory(good_after=120)
    actor, reports = make(env, learner)
    result = actor.train(GOAL, no_feedback)
    assert result.reached
    assert 120 <= result.env_steps_to_goal <= 120 + 50 + HORIZON
    assert result.success_rate == 1.0
    evaluations = [report for report in reports if "eval/success_rate" in report]
    assert [report["eval/episodes"] for report in evaluations[:-1]] == [2.0] * (len(evaluations) - 1), "out of reach"
    assert evaluations[-1]["eval/episodes"] == 20.0
    assert evaluations[-1]["eval/interval_low"] > 0.8


class Lucky(Line):
    """All goes well on some starts, whatever the policy does."""

    def __init__(self, lucky: Callable[[int], bool]) -> None:
        super().__init__()
        self.lucky = lucky

    def step(self, action: np.ndarray) -> tuple[dict, float, bool, bool, dict]:
        lucky = self.episodes[-1][0] == EpisodeMode.EVALUATION and self.lucky(self.evaluated)
        return super().step(np.ones(1, np.float32) if lucky else action)

    @property
    def evaluated(self) -> int:
        """Evaluation episodes so far."""
        return sum(mode == EpisodeMode.EVALUATION for mode, _, _ in self.episodes)


def test_a_lucky_evaluation_is_not_confirmed_and_training_goes_on() -> None:
    confirmed = TrainGoal(**{**GOAL.__dict__, "confirmations": 2})
    env = Lucky(lambda evaluated: evaluated <= 2 * GOAL.eval_episodes)  # the first evaluation and one that confirms it
    result = make(env, Memory(good_after=300))[0].train(confirmed, no_feedback)
    assert result.reached
    assert result.env_steps_to_goal >= 300
    starts = [seed for mode, _, seed in env.episodes if mode == EpisodeMode.EVALUATION]
    assert len(set(starts)) == len(starts), "each evaluation has starts of its own"
    believed = make(Lucky(lambda _: True), Memory(good_after=10**9))[0].train(GOAL, no_feedback)
    assert believed.reached and believed.env_steps_to_goal < 100


def test_what_is_evaluated_has_learned_from_all_that_is_stored() -> None:
    class Late(Memory):
        settled = False

        def send(self, chunk: Chunk) -> None:
            super().send(chunk)
            self.settled = False

        def settle(self, env_steps: int = 0) -> None:
            self.settled = True

        @property
        def policy(self) -> Policy:
            return Policy(float(self.settled))

    actor, _ = make(Line(), Late(good_after=0))
    assert actor.train(GOAL, no_feedback).reached


def test_a_policy_that_learned_from_demonstrations_alone_is_evaluated_before_it_trains() -> None:
    env, learner = Line(), Memory(good_after=0)
    actor, _ = make(env, learner, updates_before_acting=70)
    stages: list[str] = []
    result = actor.train(GOAL, lambda stage, _steps, _rate: stages.append(stage))
    assert learner.awaited == (70, len(learner.chunks))  # all demonstrations were handed over
    assert stages[1] == "demonstrations"
    counted = [stage for stage in stages if stage.startswith("demonstrations ")]
    assert counted[0].startswith("demonstrations 1 of ")
    assert len(counted) == GOAL.demonstrations
    assert stages[-2:] == ["pretraining", "evaluation"]
    assert result.reached
    assert result.env_steps == 0


def test_a_goal_that_is_not_reached_is_said_so() -> None:
    actor, _ = make(Line(), Memory(good_after=10**9))
    result = actor.train(GOAL, no_feedback)
    assert not result.reached
    assert result.env_steps_to_goal == 0
    assert result.env_steps >= GOAL.max_env_steps


def test_only_missing_demonstrations_are_recorded() -> None:
    env, learner = Line(), Memory(good_after=0)
    actor, _ = make(env, learner)
    actor.train(GOAL, no_feedback)
    assert learner.totals.demonstrations == 3
    actor.train(GOAL, no_feedback)
    assert learner.totals.demonstrations == 3


def test_a_resumed_actor_goes_on_with_the_next_episode_and_the_same_start_states() -> None:
    whole_env = Line()
    make(whole_env, Memory(good_after=10**9))[0].train(GOAL, no_feedback)
    env, learner = Line(), Memory(good_after=10**9)
    first = TrainGoal(**{**GOAL.__dict__, "max_env_steps": 240})
    make(env, learner)[0].train(first, no_feedback)
    make(env, learner)[0].train(GOAL, no_feedback)  # a new process with the old data

    def trained(line: Line) -> list[tuple[int, int]]:
        return [(episode, seed) for mode, episode, seed in line.episodes if mode == EpisodeMode.TRAINING]

    assert trained(env) == trained(whole_env)


def test_evaluation_stores_nothing_and_uses_other_start_states() -> None:
    env, learner = Line(), Memory(good_after=0)
    actor, _ = make(env, learner)
    result = actor.evaluate(30, 5, 0.0, no_feedback)
    assert result.complete
    assert result.successes == 30
    assert not learner.chunks
    assert len({seed for _, _, seed in env.episodes}) == 30


def test_a_person_with_a_device_is_waited_for_some_demonstrations_long() -> None:
    actor, _ = make(Line(person=False), Memory(good_after=0), idle_demonstrations_limit=3)
    taken: list[Chunk] = []
    assert [actor.demonstrate(number, 0, taken.append) for number in range(2)] == [0, 0]
    with pytest.raises(JobFailed, match="3 episodes in a row"):
        actor.demonstrate(2, 0, taken.append)
    assert not taken


def test_recording_without_a_person_is_an_error() -> None:
    actor, _ = make(Line(person=False), Memory(good_after=0))
    with pytest.raises(JobFailed, match="nobody led"):
        actor.record(2, 0, no_feedback, no_feedback)


class Gripping(Line):
    """Moves and grips. The person takes hold in the first steps and then lets the device go."""

    action_space = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict, dict]:
        self.gripper, self.asked = 1.0, []
        return super().reset(seed=seed, options=options)[0], {"rest_action": np.array([0.0, 1.0], np.float32)}

    def step(self, action: np.ndarray) -> tuple[dict, float, bool, bool, dict]:
        self.asked.append(action.tolist())
        leads = self.steps < 3
        executed = np.array([1.0, -1.0] if leads else action, np.float32)
        state, reward, terminated, truncated, _ = super().step(executed[:1])
        self.gripper = float(executed[1])
        rest = np.array([0.0, self.gripper], np.float32)
        info = {"executed_action": executed, "intervention": leads, "success": True, "rest_action": rest}
        return state, reward, terminated, truncated, info


def test_a_person_who_lets_go_keeps_their_grip_and_that_is_what_is_stored() -> None:
    env = Gripping()
    taken: list[Chunk] = []
    actor, _ = make(env, Memory(good_after=0))
    actor.record(1, 0, taken.append, no_feedback)
    assert env.asked == [[0.0, 1.0]] + [[0.0, -1.0]] * (len(env.asked) - 1)
    stored = np.concatenate([chunk.action for chunk in taken])
    assert len(stored) > 3 and (stored[:, 1] == -1.0).all() and (stored[3:, 0] == 0.0).all()


def test_a_lost_demonstration_leaves_no_trace() -> None:
    env, learner = Line(), Memory(good_after=0)
    actor, _ = make(env, learner)
    env.lose_next = 2
    taken: list[Chunk] = []
    done, attempts, transitions = actor.record(2, 0, taken.append, no_feedback)
    assert (done, attempts) == (2, 2)
    assert transitions == sum(len(chunk) for chunk in taken) == 8
    assert sum(chunk.first_step == 0 for chunk in taken) == 2


def test_a_world_that_stays_lost_ends_the_job_with_its_reason() -> None:
    env, learner = Line(), Memory(good_after=0)
    actor, _ = make(env, learner, lost_episodes_limit=3)
    env.lose_next = 3
    with pytest.raises(JobFailed, match="arm/executed missing"):
        actor.evaluate(1, 0, 0.0, no_feedback)


def test_a_person_may_discard_as_often_as_they_want() -> None:
    left = 0

    def check() -> None:
        nonlocal left
        if left < 20:
            left += 1
            raise EpisodeLeft("a person discarded it")

    actor, _ = make(Line(), Memory(good_after=0), check=check, lost_episodes_limit=3)
    assert actor.evaluate(1, 0, 0.0, no_feedback).complete
    assert left == 20


def test_a_demonstration_that_is_discarded_as_it_ends_leaves_no_trace() -> None:
    endings = 0

    def end() -> None:
        nonlocal endings
        endings += 1
        if endings == 1:
            raise EpisodeLeft("a person discarded it")

    env = Line()
    actor, _ = make(env, Memory(good_after=0), end=end)
    taken: list[Chunk] = []
    done, attempts, transitions = actor.record(1, 0, taken.append, no_feedback)
    assert (done, attempts, len(env.episodes)) == (1, 1, 2)
    assert transitions == sum(len(chunk) for chunk in taken) == 4


def test_what_a_person_discards_of_training_is_forgotten_and_its_number_is_not_used_again() -> None:
    steps = 0

    def check() -> None:
        nonlocal steps
        steps += 1
        if steps % 17 == 0:
            raise EpisodeDiscarded("a person discarded it")

    env, learner = Line(person=False), Memory(good_after=10**9)
    learner.connect()
    actor, _ = make(env, learner, check=check)
    exploring = actor.exploring(0)
    for _ in range(12):
        actor.train_episode(exploring, 0)
    assert actor.discarded[EpisodeMode.TRAINING] >= 5
    kept = [sum(len(chunk) for chunk in learner.chunks if chunk.episode == number) for number in range(1, 40)]
    assert [count for count in kept if count] == [HORIZON] * 12, "whole ones alone"


def test_discards_in_an_evaluation_are_counted() -> None:
    steps = 0

    def check() -> None:
        nonlocal steps
        steps += 1
        if steps in (3, 8):
            raise EpisodeDiscarded("a person discarded it")

    actor, reports = make(Line(), Memory(good_after=0), check=check)
    result = actor.evaluate(5, 0, 0.0, no_feedback)
    assert (result.episodes, result.successes, result.discarded) == (5, 5, 2)
    assert reports[-1]["eval/discarded"] == 2.0
    assert actor.evaluate(5, 0, 0.0, no_feedback).discarded == 0, "of this evaluation"


def test_parts_of_an_evaluation_have_the_starts_of_the_whole_and_are_not_reported() -> None:
    def starts(*parts: tuple[int, int]) -> list[int]:
        env = Line()
        actor, reports = make(env, Memory(good_after=0))
        for first, count in parts:
            actor.evaluate(count, 3, 0.0, no_feedback, first=first, part=len(parts) > 1)
        assert bool(reports) == (len(parts) == 1)
        return [seed for _, _, seed in env.episodes]

    whole = starts((0, 5))
    assert len(set(whole)) == 5
    assert starts((3, 2), (0, 3)) == whole[3:] + whole[:3]


def test_without_evaluations_training_ends_with_its_env_steps() -> None:
    env = Line()
    goal = TrainGoal(**{**GOAL.__dict__, "eval_episodes": 0, "max_env_steps": 130})
    result = make(env, Memory(good_after=0))[0].train(goal, no_feedback)
    assert not result.reached
    assert 130 <= result.env_steps < 130 + HORIZON
    assert EpisodeMode.EVALUATION not in {mode for mode, _, _ in env.episodes}


def test_cancelling_leaves_the_job_at_the_next_step() -> None:
    actor, _ = make(Line(), Memory(good_after=10**9), check=cancel_after(25))
    with pytest.raises(Cancelled):
        actor.train(GOAL, no_feedback)


@pytest.mark.parametrize(
    "change",
    [
        {"max_env_steps": 0},
        {"eval_every": 0},
        {"eval_episodes": -1},
        {"success_goal": 1.5},
        {"seed": -1},
        {"confirmations": 101},
    ],
)
def test_impossible_goals_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="train:"):
        TrainGoal(**{**GOAL.__dict__, **change})


class Glitching(Line):
    """Measures something absurd in the first steps that are asked of it."""

    def __init__(self, value: float, count: int) -> None:
        super().__init__()
        self.value, self.count = value, count

    def step(self, action: np.ndarray) -> tuple[dict, float, bool, bool, dict]:
        state, *rest = super().step(action)
        if self.count:
            self.count -= 1
            state = {"state": np.array([self.value], np.float32)}
        return (state, *rest)  # type: ignore[return-value]


@pytest.mark.parametrize("value", [np.nan, np.inf, 3e38, -1e4])
def test_an_episode_with_an_absurd_measurement_is_lost_and_the_next_one_goes_on(value, caplog):
    env, learner = Glitching(value, 2), Memory(good_after=0)
    actor, _ = make(env, learner)
    result = actor.train(replace(GOAL, demonstrations=0), no_feedback)
    assert result.reached
    assert all(np.abs(chunk.observation["state"]).max() < 10 for chunk in learner.chunks)
    assert "is lost: observation.state" in caplog.text
    with pytest.raises(JobFailed, match=r"5 .* episodes in a row were lost; the last one: observation\.state"):
        make(Glitching(value, 10**6), Memory(good_after=0))[0].record(1, 0, no_feedback, no_feedback)


class Exploding(Line):
    """Breaks in the third step of its first two training episodes."""

    def step(self, action: np.ndarray) -> tuple[dict, float, bool, bool, dict]:
        broken = sum(mode is EpisodeMode.TRAINING for mode, *_ in self.episodes) in (1, 2)
        if broken and self.mode is EpisodeMode.TRAINING and self.steps == 2:
            raise WorldBroken("the simulation diverged")
        return super().step(action)


def test_a_world_that_breaks_leaves_nothing_and_says_why(caplog) -> None:
    env, learner = Exploding(), Memory(good_after=0)
    actor, _ = make(env, learner, whole_episodes=True)
    assert actor.train(replace(GOAL, demonstrations=0, eval_every=1), no_feedback).reached
    tried = [number for mode, number, _ in env.episodes if mode is EpisodeMode.TRAINING]
    assert tried == [1, 1, 1], "no number is lost, for nothing is stored under it"
    assert [chunk.first_step for chunk in learner.chunks] == [0]
    assert caplog.text.count("is lost: the simulation diverged") == 2
