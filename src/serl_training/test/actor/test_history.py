# SPDX-License-Identifier: Apache-2.0
"""Vectors that remember: as they come from an environment, and as they are made of what was recorded without."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from serl_rl.config import ActingConfig, Gripper, LearningConfig
from serl_rl.policy.grasps import locate_grippers
from serl_rl.spec import DataError, TransitionSpec
from serl_rl.storage.chunk import Chunk
from serl_rl.storage.demonstrations import DemonstrationFile
from serl_training.actor.demonstrations import load_demonstrations
from serl_training.actor.history import HistoryEnv, with_history
from serl_training.actor.perception import make_perception
from serl_training.actor.rollout import ChunkBuilder, ChunkFormat, StepOutcome, run_episode
from serl_training.env.episode import EpisodeMode, EpisodeStart, Observation

import serl_sim
from serl_tasks import get_task

TASK = get_task("pick_cube")
SPEC = TransitionSpec({"cam": ((1, 1, 3), "uint8"), "state": ((2,), "float32")}, 1)


class Counting(gym.Env[Observation, NDArray[np.float32]]):
    """Its state is (steps since the seed's number, 7), over several episodes."""

    observation_space = gym.spaces.Dict(
        {"cam": gym.spaces.Box(0, 255, (1, 1, 3), np.uint8), "state": gym.spaces.Box(-1e3, 1e3, (2,), np.float32)}
    )
    action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, length: int) -> None:
        self.length = length

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Observation, dict]:
        self.first = self.value = 100 * (seed or 0)
        return self.seen(), {}

    def step(self, action: NDArray[np.float32]) -> tuple[Observation, float, bool, bool, dict]:
        self.value += 1
        over = self.value - self.first == self.length
        info = {"executed_action": action, "intervention": False, "success": over}
        return self.seen(), 0.0, over, False, info

    def seen(self) -> Observation:
        return {"cam": np.full((1, 1, 3), self.value % 256, np.uint8), "state": np.array([self.value, 7], np.float32)}


class Resting:
    def reset(self) -> None:
        pass

    def act(self, observation: Observation, info: Any) -> tuple[NDArray[np.float32], int]:
        return np.zeros(1, np.float32), 0


def remembering(history: int) -> TransitionSpec:
    return replace(SPEC, observation={**SPEC.observation, "state": ((2 * history,), "float32")})


def episode(env: gym.Env, spec: TransitionSpec, number: int, size: int) -> list[Chunk]:
    found: list[Chunk] = []
    start = EpisodeStart(EpisodeMode.DEMONSTRATION, number, number)
    run_episode(env, Resting(), start, ChunkFormat(spec, size=size), on_chunk=found.append)
    return found


@given(st.integers(2, 5), st.integers(1, 12), st.integers(1, 5))
@settings(max_examples=40)
def test_every_observation_holds_its_past_and_recorded_ones_get_the_same(history, length, size):
    single, env = Counting(length), HistoryEnv(Counting(length), history, ("state",))
    assert env.observation_space["state"].shape == (2 * history,)
    recorded = [chunk for number in (1, 2) for chunk in episode(single, SPEC, number, size)]
    made = list(with_history(recorded, remembering(history), history))
    seen = [chunk for number in (1, 2) for chunk in episode(env, remembering(history), number, size)]
    assert len(made) == len(seen)
    for one, other in zip(made, seen, strict=True):
        np.testing.assert_array_equal(one.observation["state"], other.observation["state"])
        np.testing.assert_array_equal(one.observation["cam"], other.observation["cam"])
        for row, values in enumerate(other.observation["state"]):
            step = other.first_step + row
            past = [100 * other.episode + max(step - age, 0) for age in range(history)]
            assert values.tolist() == [number for value in past for number in (value, 7)]


def test_a_piece_without_the_one_before_it_is_refused():
    _, second, *_ = episode(Counting(9), SPEC, 1, 3)
    with pytest.raises(DataError, match="first_step"):
        list(with_history([second], remembering(2), 2))


def test_a_task_with_a_history_says_which_values_are_the_newest(tmp_path: Path):
    plain = make_perception(TASK, LearningConfig(), seed=0)
    seen = make_perception(TASK, LearningConfig(acting=ActingConfig(history=3)), seed=0)
    size = plain.spec.observation["state"].elements
    assert seen.spec.observation["state"].shape == (3 * size,)
    assert seen.momentary == seen.pictures == plain.spec
    names = [value["name"] for value in seen.spec.meaning["state"]]
    assert names[:size] == [value["name"] for value in plain.spec.meaning["state"]]
    assert len(set(names)) == 3 * size
    assert locate_grippers(seen.spec, [Gripper()]) == locate_grippers(plain.spec, [Gripper()])
    env = seen.wrap(serl_sim.make("pick_cube"))
    first, _ = env.reset(seed=0)
    after, *_ = env.step(np.ones(4, np.float32))
    np.testing.assert_array_equal(after["state"][size:], np.tile(first["state"][:size], 2))
    assert env.observation_space.contains(after)
    env.close()


def test_a_file_that_was_recorded_without_a_history_serves_one(tmp_path: Path):
    seen = make_perception(TASK, LearningConfig(acting=ActingConfig(history=2)), seed=0)
    env = serl_sim.make("pick_cube")
    start = EpisodeStart(EpisodeMode.DEMONSTRATION, 1, 1)
    path, size = tmp_path / "demos.serl", seen.momentary.observation["state"].elements

    observation, _ = env.reset(seed=1)
    builder, over = ChunkBuilder(observation, start, ChunkFormat(seen.pictures)), False
    with DemonstrationFile(path, seen.pictures) as file:
        while not over:
            observation, reward, terminated, truncated, info = env.step(np.full(4, 0.3, np.float32))
            over = terminated or truncated
            step = StepOutcome(info["executed_action"], reward, terminated, truncated, True, 0, info["success"])
            if (chunk := builder.add(step, observation)) is not None:
                file.append(chunk)
    env.close()
    chunks = load_demonstrations(path, seen, 0, check=lambda: None)
    rows = np.concatenate([chunk.observation["state"][:-1] for chunk in chunks])
    np.testing.assert_array_equal(rows[1:, size:], rows[:-1, :size])
    np.testing.assert_array_equal(rows[0, size:], rows[0, :size])
