# SPDX-License-Identifier: Apache-2.0
"""Two tasks by turns, on a world that is one number: one task is to bring it above 1, the other one below -1."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from line_learner import GOAL, Host, Memory, cancel_after, no_feedback
from serl_rl.storage.chunk import TransitionSpec
from serl_training.actor.actor import Actor, ActorSettings
from serl_training.actor.episode_numbers import EpisodeNumbers
from serl_training.actor.job import Cancelled
from serl_training.actor.pair import Member, Pair
from serl_training.env.episode import EpisodeMode

HORIZON = 12
GOALS = {"up": 1.0, "down": -1.0}


class Line(gym.Env):
    """x stays where it was as an episode begins. A person leads in demonstrations, of which the first `fails` fail."""

    observation_space = gym.spaces.Dict({"state": gym.spaces.Box(-10.0, 10.0, (1,), np.float32)})
    action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, fails: int = 0) -> None:
        self.x, self.fails = -1.2, fails
        self.episodes: list[tuple[EpisodeMode, str, int]] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict, dict]:
        options = options or {}
        self.mode, self.task, self.steps = options["mode"], options["task"], 0
        self.episodes.append((self.mode, self.task, options["episode"]))
        self.lazy = self.mode == EpisodeMode.DEMONSTRATION and self.fails > 0
        self.fails -= self.lazy
        return self.observe(), {}

    def observe(self) -> dict:
        return {"state": np.array([self.x], np.float32)}

    def step(self, action: np.ndarray) -> tuple[dict, float, bool, bool, dict]:
        goal = GOALS[self.task]
        leads = self.mode == EpisodeMode.DEMONSTRATION
        executed = np.array([0.0 if self.lazy else np.sign(goal)], np.float32) if leads else action
        self.steps += 1
        self.x += 0.3 * float(executed[0])
        success = self.x * goal > 1.0
        info = {"executed_action": executed, "intervention": leads, "success": success}
        return self.observe(), float(success), success, not success and self.steps >= HORIZON, info


class Place:
    """Whose turn it is, told from where things lie: x above 0 is to go down."""

    def __init__(self, env: Line, resets_at: int = -1) -> None:
        self.env, self.resets_at, self.resets = env, resets_at, 0
        self.calls: list[tuple[str, bool]] = []

    def first(self) -> str:
        return "down" if self.env.x > 0.0 else "up"

    def after(self, task: str, success: bool) -> str:
        self.calls.append((task, success))
        self.resets += len(self.calls) == self.resets_at
        return self.first()


class Rig:
    """A pair on a line, and everything that it talks to."""

    def __init__(self, env: Line, learners: dict[str, Memory], *, resets_at: int = -1, updates: int = 0) -> None:
        self.env, self.learners = env, learners
        self.place, self.host = Place(env, resets_at), Host()
        self.hosts = {name: Host() for name in learners}
        spec = TransitionSpec.from_spaces(env.observation_space, env.action_space)
        numbers = EpisodeNumbers(list(learners.values()))  # type: ignore[arg-type]
        members = {}
        for name, learner in learners.items():
            settings = ActorSettings("a", task=name, chunk_size=4)
            actor = Actor(env, learner, self.host, spec, settings, numbers)  # type: ignore[arg-type]
            members[name] = Member(actor, learner, self.hosts[name])  # type: ignore[arg-type]
        self.pair = Pair(members, self.place, numbers, self.host, updates)

    def tasks(self, mode: EpisodeMode) -> list[str]:
        return [task for each, task, _ in self.env.episodes if each == mode]


def rig(good_after: int = 0, *, fails: int = 0, **options: Any) -> Rig:
    return Rig(Line(fails), {name: Memory(good_after, np.sign(goal)) for name, goal in GOALS.items()}, **options)


def test_both_are_shown_by_turns_until_each_has_what_it_lacks() -> None:
    run = rig(good_after=10**9, fails=2)
    result = run.pair.train(GOAL, no_feedback)
    assert run.tasks(EpisodeMode.DEMONSTRATION) == ["up", "up", "up", "down", "up", "down", "up", "down"]
    for learner in run.learners.values():
        assert learner.totals.demonstrations == 3
    assert not result.both.reached
    run.pair.train(GOAL, no_feedback)
    assert len(run.tasks(EpisodeMode.DEMONSTRATION)) == 8, "none is missing any more"


def test_a_success_is_followed_by_the_other_task_and_a_failure_by_the_same() -> None:
    run = rig(good_after=40)
    run.pair.train(GOAL, no_feedback)
    tasks = run.tasks(EpisodeMode.TRAINING)
    assert set(tasks) == set(GOALS)
    outcomes = run.place.calls[6:]  # behind the demonstrations
    ways = list(pairwise(outcomes))
    assert all((task != following) is success for (task, success), (following, _) in ways)


def test_training_ends_when_an_evaluation_of_both_reaches_the_goal() -> None:
    run = rig(good_after=60)
    result = run.pair.train(GOAL, no_feedback)
    assert result.both.reached
    steps = [learner.totals.env_steps for learner in run.learners.values()]
    assert result.both.env_steps == result.both.env_steps_to_goal == sum(steps)
    assert min(steps) >= 60 and max(steps) <= 60 + 50 + 2 * HORIZON
    assert {name: (each.episodes, each.successes) for name, each in result.tallies.items()} == {
        "up": (10, 10),
        "down": (10, 10),
    }
    for host in run.hosts.values():
        assert host.reports[-1]["eval/success_rate"] == 1.0
        assert host.reports[-1]["eval/episodes"] == 10.0
    assert run.host.reports[-1]["eval/episodes"] == 20.0
    assert result.resets == 0
    counts = [report["autonomy/episodes"] for report in run.host.reports if "train/resets" in report]
    assert counts == [min(number, 20.0) for number in range(1, len(counts) + 1)], "of both together"


def test_what_an_actor_stores_goes_to_the_learner_of_its_task_alone() -> None:
    run = rig(good_after=60)
    run.pair.train(GOAL, no_feedback)
    seen: set[int] = set()
    for name, learner in run.learners.items():
        actions = [chunk.action for chunk in learner.chunks if chunk.demonstration]
        assert np.all(np.concatenate(actions) == learner.direction)
        episodes = {chunk.episode for chunk in learner.chunks}
        assert episodes == {
            number for mode, task, number in run.env.episodes if task == name and mode != EpisodeMode.EVALUATION
        }
        assert not episodes & seen, "no number is there twice"
        seen |= episodes


def test_an_episode_that_failed_leaves_its_number_unused_for_ever() -> None:
    run = rig(good_after=0, fails=2)
    run.pair.train(GOAL, no_feedback)
    numbers = [number for _, _, number in run.env.episodes]
    assert len(set(numbers)) == len(numbers)


def test_a_new_actor_goes_on_from_where_things_lie() -> None:
    env, learners = Line(), {name: Memory(10**9, np.sign(goal)) for name, goal in GOALS.items()}
    first = Rig(env, learners)
    first.host.check = cancel_after(100)
    with pytest.raises(Cancelled):
        first.pair.train(GOAL, no_feedback)
    before = len(env.episodes)
    stored = max(learner.totals.episodes for learner in learners.values())
    env.x = 0.7  # wherever that was
    Rig(env, learners).pair.train(GOAL, no_feedback)
    assert env.episodes[before] == (EpisodeMode.TRAINING, "down", stored + 1)


def test_resets_are_counted_in_training_and_evaluation() -> None:
    run = rig(good_after=0, resets_at=4)
    assert run.pair.evaluate(10, 0, 0.0, no_feedback).resets == 1
    assert run.pair.evaluate(10, 0, 0.0, no_feedback).resets == 0
    training = rig(good_after=0, resets_at=2)  # while it is shown
    assert training.pair.train(GOAL, no_feedback).resets == 1


def test_an_evaluation_whose_goal_is_out_of_reach_ends_early() -> None:
    run = rig(good_after=10**9)
    result = run.pair.evaluate(20, 0, 0.95, no_feedback)
    assert not result.both.complete
    assert result.both.episodes == 2
    assert result.tallies["up"].episodes == 2
    assert result.both.interval[0] == 0.0
    assert not run.hosts["down"].reports, "nothing is known of what was not tried"


def test_what_is_learned_from_demonstrations_alone_is_evaluated_before_it_acts() -> None:
    run = rig(good_after=0, updates=70)
    result = run.pair.train(GOAL, no_feedback)
    assert result.both.reached
    assert result.both.env_steps == 0
    assert all(learner.awaited == (70, len(learner.chunks)) for learner in run.learners.values())


def test_recording_adds_demonstrations_of_both() -> None:
    run = rig()
    result = run.pair.record(2, 0, no_feedback)
    assert (result.successes, result.attempts) == (4, 4)
    run.pair.record(1, 0, no_feedback)
    assert [learner.totals.demonstrations for learner in run.learners.values()] == [3, 3]
