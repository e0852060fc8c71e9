# SPDX-License-Identifier: Apache-2.0
"""What an imported policy would do is a part of each observation, at both ends of a transition."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from serl_rl.base_action import BASE_ACTION, with_base_action
from serl_rl.replay.buffer import ReplayBuffer
from serl_rl.spec import DataError, TransitionSpec
from serl_rl.storage.chunk import Chunk, decode_chunk, encode_chunk
from serl_training.actor.behaviours import Exploring
from serl_training.actor.perception import FrameStacker
from serl_training.actor.rollout import ChunkFormat, run_episode
from serl_training.env.base_action import BaseActionEnv, base_action, with_base_actions
from serl_training.env.episode import EpisodeDiscarded, EpisodeMode, EpisodeStart
from serl_training.link.learner_link import LearnerTotals

MOMENT = TransitionSpec({"state": ((1,), "float32")}, 1, meaning={"action": [{"name": "dx", "scale": 1.0}]})
SPEC = with_base_action(MOMENT)
LED = {2, 3}  # steps in which somebody else leads


class Line(gym.Env):
    """A place on a line; what is done is not always what was chosen."""

    observation_space = gym.spaces.Dict({"state": gym.spaces.Box(-10, 10, (1,), np.float32)})
    action_space = gym.spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        self.place, self.step_number = 0.0, 0
        return {"state": np.zeros(1, np.float32)}, {}

    def step(self, action):
        led = self.step_number in LED
        executed = np.array([0.5], np.float32) if led else np.asarray(action, np.float32)
        self.place += float(executed[0])
        self.step_number += 1
        info = {"executed_action": executed, "intervention": led, "success": False}
        return {"state": np.array([self.place], np.float32)}, 0.0, False, self.step_number == 7, info


class Planning:
    """Plans three actions at a time, which say where and when they were planned."""

    action_dim, planned = 1, 0

    def __init__(self) -> None:
        self.plan: list[float] = []

    def reset(self) -> None:
        self.plan = []

    def act(self, observation, *, deterministic, rng=None):
        if not self.plan:
            self.plan = [float(observation["state"][0]) / 10 + age / 100 for age in range(3)]
        return np.array([self.plan.pop(0)], np.float32)

    def check(self, spec) -> None:
        pass


class Link:
    """A learner that has no policy yet."""

    totals, policy_version, policy = LearnerTotals(), 0, None


def episode(env: gym.Env, spec: TransitionSpec) -> list[Chunk]:
    chunks: list[Chunk] = []
    exploring = Exploring(Link(), FrameStacker(spec), np.random.default_rng(0), random_steps=100)
    run_episode(
        env, exploring, EpisodeStart(EpisodeMode.TRAINING, 0, 0), ChunkFormat(spec, size=3), on_chunk=chunks.append
    )
    return chunks


def test_the_first_steps_are_the_imported_policys_and_it_looks_anew_where_it_was_led():
    chunks = episode(BaseActionEnv(Line(), Planning()), SPEC)
    base = np.concatenate([chunk.observation[BASE_ACTION][:-1] for chunk in chunks])[:, 0]
    action = np.concatenate([chunk.action for chunk in chunks])[:, 0]
    state = np.concatenate([chunk.observation["state"][:-1] for chunk in chunks])[:, 0]
    led = np.isin(np.arange(7), list(LED))
    np.testing.assert_array_equal(action[~led], base[~led])
    # ages of the plan: 0, 1, 2 as planned; behind each step in which it was led it begins anew
    planned_at = [0, 0, 0, 3, 4, 4, 4]
    ages = [0, 1, 2, 0, 0, 1, 2]
    np.testing.assert_allclose(
        base, [state[at] / 10 + age / 100 for at, age in zip(planned_at, ages, strict=True)], atol=1e-6
    )


def test_it_looks_anew_where_the_arm_was_held_and_in_each_episode():
    class Held(Line):
        def step(self, action):
            observation, reward, terminated, truncated, info = super().step(action)
            return observation, reward, terminated, truncated, info | {"interrupted": self.step_number == 1}

    env, policy = BaseActionEnv(Held(), Planning()), Planning()
    for _ in range(2):  # the first one leaves a plan behind
        observation, _ = env.reset()
        np.testing.assert_array_equal(observation[BASE_ACTION], [0.0])
        observation, *_ = env.step(np.array([1.0], np.float32))
        expected = base_action(policy, {"state": observation["state"]})
        policy.reset()
        np.testing.assert_array_equal(observation[BASE_ACTION], expected)  # of a plan made there


def test_a_base_action_is_one_of_the_task():
    class Outside(Planning):
        def act(self, observation, *, deterministic, rng=None):
            return np.array([-1.5 if deterministic else 0.0])

    found = base_action(Outside(), {"state": np.zeros(1, np.float32)})
    assert found.dtype == np.float32 and found.tolist() == [-1.0]


def test_a_rewind_takes_the_base_actions_back_that_follow_it():
    sent: list[Chunk] = []
    env, steps = BaseActionEnv(Line(), Planning()), iter(range(100))

    def before_step() -> None:
        if next(steps) == 5:
            raise EpisodeDiscarded("rewound", steps=1)

    exploring = Exploring(Link(), FrameStacker(SPEC), np.random.default_rng(0), random_steps=100)
    start, chunk_format = EpisodeStart(EpisodeMode.TRAINING, 0, 0), ChunkFormat(SPEC, size=10)
    with pytest.raises(EpisodeDiscarded):
        run_episode(env, exploring, start, chunk_format, on_chunk=sent.append, before_step=before_step)
    (whole,) = [chunk for chunk in [*episode(BaseActionEnv(Line(), Planning()), SPEC)] if chunk.first_step == 3]
    assert sum(map(len, sent)) == 4
    np.testing.assert_array_equal(sent[-1].observation[BASE_ACTION][-1], whole.observation[BASE_ACTION][1])


def test_recorded_demonstrations_get_what_they_would_have_got_live():
    live = episode(BaseActionEnv(Line(), Planning()), SPEC)
    policy = Planning()
    policy.act({"state": np.ones(1, np.float32)}, deterministic=True)  # of an episode before
    bare = [
        Chunk(**{**vars(chunk), "observation": {"state": chunk.observation["state"]}, "meaning": MOMENT.meaning_hash})
        for chunk in live
    ]
    made = list(with_base_actions(bare, bare, policy, SPEC))
    assert [encode_chunk(chunk, SPEC) for chunk in made] == [encode_chunk(chunk, SPEC) for chunk in live]


def test_an_episode_with_a_hole_gets_no_base_actions():
    first, _, third = episode(Line(), MOMENT)
    with pytest.raises(DataError, match="first_step"):
        list(with_base_actions([first, third], [first, third], Planning(), SPEC))


def test_a_stored_transition_has_the_base_actions_of_both_its_observations():
    chunks = episode(BaseActionEnv(Line(), Planning()), SPEC)
    buffer = ReplayBuffer(SPEC, 100)
    for chunk in chunks:
        buffer.insert(decode_chunk(encode_chunk(chunk, SPEC), SPEC))
    rows = buffer.transitions()
    np.testing.assert_array_equal(rows["observation"][BASE_ACTION][1:], rows["next_observation"][BASE_ACTION][:-1])
    assert np.unique(rows["observation"][BASE_ACTION]).size == 7
