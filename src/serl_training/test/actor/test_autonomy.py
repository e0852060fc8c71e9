# SPDX-License-Identifier: Apache-2.0
"""Autonomy is counted over the last training episodes, and a person who does nearly everything is told so."""

from __future__ import annotations

import logging
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
from serl_training.actor.autonomy import MOST_LED, WINDOW, Autonomy
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
        assert autonomy.numbers() == expected


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
