# SPDX-License-Identifier: Apache-2.0
"""Autonomy is counted over the last training episodes, and a person who does nearly everything is told so."""

from __future__ import annotations

import logging
import math
from fractions import Fraction
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from line_learner import Host, Memory
from serl_rl.spec import TransitionSpec
from serl_training.actor.actor import Actor, ActorSettings
from serl_training.actor.autonomy import MOST_LED, RETURN_WINDOW, WINDOW, Autonomy, return_of_help
from serl_training.actor.rollout import EpisodeSummary


@st.composite
def summaries(draw: st.DrawFn) -> EpisodeSummary:
    length = draw(st.integers(1, 300))
    led = draw(st.sampled_from([0, length]) | st.integers(0, length))
    return EpisodeSummary(0, length, 0.0, draw(st.booleans()), led)


def led(steps: int, of: int = 10) -> EpisodeSummary:
    return EpisodeSummary(0, of, 0.0, True, steps)


@given(st.lists(summaries(), max_size=60), st.integers(1, 25))
def test_the_numbers_are_those_of_the_last_episodes(episodes: list[EpisodeSummary], window: int) -> None:
    autonomy = Autonomy(window)
    assert autonomy.numbers() == {}
    for end, episode in enumerate(episodes, start=1):
        autonomy.add(episode)
        last = episodes[max(0, end - window) : end]
        led_by_step = np.concatenate([np.arange(each.length) < each.interventions for each in last])
        untouched = [each for each in last if each.interventions == 0]
        expected = {
            "autonomy/untouched": float(Fraction(len(untouched), len(last))),
            "autonomy/led_steps": float(Fraction(int(led_by_step.sum()), led_by_step.size)),
            "autonomy/episode_length": float(Fraction(led_by_step.size, len(last))),
            "autonomy/episodes": len(last),
        }
        if untouched:
            successes = sum(each.success for each in untouched)
            expected["autonomy/success_alone"] = float(Fraction(successes, len(untouched)))
        found = autonomy.numbers()
        assert {name: value for name, value in found.items() if "return_of_help" not in name} == expected
        help_return = return_of_help(episodes[max(0, end - RETURN_WINDOW) : end])
        assert found.get("autonomy/return_of_help") == (None if help_return is None else help_return.value)


def nearest(episodes: list[EpisodeSummary], near: int) -> tuple[list[bool], list[bool]]:
    """Successes before and after help, episode by episode: by the distances to all that were helped."""
    before, after = [], []
    for index, episode in enumerate(episodes):
        if episode.interventions:
            continue
        distances = [(abs(index - other), other) for other, each in enumerate(episodes) if each.interventions]
        least = min(distances, default=(near + 1, 0))[0]
        those = [other for distance, other in distances if distance == least]
        if least <= near and len(those) == 1:
            (after if those[0] < index else before).append(episode.success)
    return before, after


@given(st.lists(summaries(), max_size=60), st.integers(1, 12))
def test_the_return_of_help_compares_what_is_nearest(episodes: list[EpisodeSummary], near: int) -> None:
    before, after = nearest(episodes, near)
    found = return_of_help(episodes, near)
    if not (before and after):
        assert found is None
        return
    assert found is not None
    assert found.value == pytest.approx(np.mean(after) - np.mean(before))
    assert -1.0 - 1e-12 <= found.low <= found.value <= found.high <= 1.0 + 1e-12
    # who helps by turns with who does not: each episode is as near to both
    assert return_of_help([led(turn % 2) for turn in range(20)]) is None


def test_the_interval_of_the_return_of_help_covers_a_return_that_is_there() -> None:
    """Success changes from 0.4 to 0.7 with each help, and back half-way to the next."""
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(400):
        episodes = []
        for _ in range(7):
            chances = [0.7] * 5 + [0.4] * 5
            episodes += [EpisodeSummary(0, 10, 0.0, bool(rng.random() < chance), 0) for chance in chances]
            episodes.append(led(5))
        found = return_of_help(episodes, near=5)
        assert found is not None
        covered.append(found.low <= 0.3 <= found.high)
    assert 0.95 - 4.0 * math.sqrt(0.95 * 0.05 / 400) < np.mean(covered) < 1.0


def test_success_that_help_does_not_change_has_no_return_in_19_of_20_cases() -> None:
    rng = np.random.default_rng(1)
    found = [
        return_of_help(
            [EpisodeSummary(0, 10, 0.0, bool(rng.random() < 0.6), int(rng.random() < 0.2)) for _ in range(100)]
        )
        for _ in range(400)
    ]
    known = [each for each in found if each is not None]
    assert len(known) == 400
    assert 0.95 - 4.0 * math.sqrt(0.95 * 0.05 / 400) < np.mean([each.low <= 0.0 <= each.high for each in known])
    assert abs(np.mean([each.value for each in known])) < 0.02


@given(st.lists(st.integers(0, 10), max_size=80), st.integers(1, 12))
def test_a_warning_comes_at_most_once_per_window_and_only_where_there_is_a_concern(
    steps: list[int], window: int
) -> None:
    autonomy, warned = Autonomy(window), []
    for number, count in enumerate(steps, start=1):
        autonomy.add(led(count))
        full = number >= window
        much = full and sum(steps[number - window : number]) > 8 * window
        assert bool(autonomy.concern()) is much
        due = not warned or number - warned[-1] >= window
        warning = autonomy.warning()
        assert bool(warning) is (much and due)
        if warning:
            warned.append(number)
            assert warning == autonomy.concern()
        assert not autonomy.warning()


def test_the_limit_itself_is_no_concern() -> None:
    assert MOST_LED == 0.8
    autonomy = Autonomy()
    for _ in range(WINDOW):
        assert not autonomy.concern()
        autonomy.add(led(8))
    assert not autonomy.concern()
    autonomy.add(led(9))
    assert "led in 80% of the steps of the last 20 training episodes" in autonomy.concern()


def test_a_window_holds_an_episode() -> None:
    with pytest.raises(ValueError, match="window: expected at least 1 episode, found 0"):
        Autonomy(0)


class World(gym.Env):
    """Episodes of five steps, every second one a success; a person leads in the last `led` steps of each."""

    observation_space = gym.spaces.Dict({"state": gym.spaces.Box(-1.0, 1.0, (1,), np.float32)})
    action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)
    led = 5
    episodes = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict, dict]:
        self.steps = 0
        self.episodes += 1
        return {"state": np.zeros(1, np.float32)}, {}

    def step(self, action: np.ndarray) -> tuple[dict, float, bool, bool, dict]:
        self.steps += 1
        over = self.steps == 5
        success = over and self.episodes % 2 == 0
        info = {"executed_action": action, "intervention": self.steps > 5 - self.led, "success": success}
        return {"state": np.zeros(1, np.float32)}, float(success), success, over and not success, info


def make(env: World) -> tuple[Actor, Host]:
    learner, host = Memory(good_after=10**9), Host()
    learner.connect()
    spec = TransitionSpec.from_spaces(env.observation_space, env.action_space)
    return Actor(env, learner, host, spec, ActorSettings("a", task="line")), host  # type: ignore[arg-type]


def test_an_actor_reports_it_of_training_episodes_and_warns_once(caplog: pytest.LogCaptureFixture) -> None:
    env = World()
    actor, host = make(env)
    exploring = actor.exploring(0)
    with caplog.at_level(logging.WARNING):
        for _ in range(2 * WINDOW - 1):
            actor.train_episode(exploring, 0)
    (record,) = caplog.records
    assert record.getMessage().startswith("line: a person led in 100% of the steps of the last 20 training episodes")
    assert [bool(concern) for _, concern in host.concerns] == [False] * (WINDOW - 1) + [True] * WINDOW
    assert host.reports[-1]["autonomy/led_steps"] == host.reports[-1]["train/intervention_rate"] == 1.0
    assert "autonomy/success_alone" not in host.reports[-1]
    env.led = 0
    for _ in range(WINDOW):
        actor.train_episode(exploring, 0)
    assert host.concerns[-1] == ("autonomy", "")
    newest = host.reports[-1]
    assert newest["autonomy/untouched"] == 1.0
    assert newest["autonomy/success_alone"] == 0.5


def test_demonstrations_are_not_counted() -> None:
    env = World()
    actor, host = make(env)
    for number in range(WINDOW + 1):
        actor.demonstrate(number, 0, lambda _chunk: None)
    assert not host.reports and not host.concerns
    env.led = 2
    actor.train_episode(actor.exploring(0), 0)
    assert host.reports[-1]["autonomy/episodes"] == 1.0
    assert host.reports[-1]["autonomy/led_steps"] == 0.4
