# SPDX-License-Identifier: Apache-2.0
"""Stamps of recorded demonstrations: whose they are, and what a check of the file says by them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from serl_recording.episode import NANOSECONDS, Episode, RecordingSpec
from serl_recording.registry import open_recording
from serl_recording.survey import Survey
from serl_rl.spec import TransitionSpec
from serl_rl.storage.chunk import Chunk
from serl_rl.storage.demonstrations import DemonstrationFile
from serl_training.actor.rollout import ChunkFormat, run_episode
from serl_training.env.episode import EpisodeMode, EpisodeStart
from serl_training.env.stamps import StampedEnv

SPEC = TransitionSpec({"state": ((1,), "float32")}, 1)
RATE = 10.0
PERIOD = round(NANOSECONDS / RATE)


class Clock(gym.Env):
    """An environment whose observations are made when `stamps` says, and hold the step."""

    observation_space = gym.spaces.Dict({"state": gym.spaces.Box(-1e6, 1e6, (1,), np.float32)})
    action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, stamps: list[int]) -> None:
        self.all_stamps = stamps

    def newest(self) -> int:
        return self.all_stamps[self.count]

    def _state(self) -> dict[str, np.ndarray]:
        return {"state": np.array([self.count], np.float32)}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict, dict]:
        super().reset(seed=seed)
        self.count = 0
        return self._state(), {}

    def step(self, action: np.ndarray) -> tuple[dict, float, bool, bool, dict]:
        self.count += 1
        over = self.count == len(self.all_stamps) - 1
        info = {"executed_action": action, "intervention": True, "success": over}
        return self._state(), float(over), over, False, info


class Swaying:
    def reset(self) -> None:
        pass

    def act(self, observation: dict, info: dict) -> tuple[np.ndarray, int]:
        return np.sin(observation["state"]).astype(np.float32), 0


def recorded(path: Path, episodes: list[list[int]], size: int) -> list[Episode]:
    """Episodes with these stamps, recorded as the actor does it, and read."""
    with DemonstrationFile(path, SPEC, about={"rate": RATE}) as file:
        for number, stamps in enumerate(episodes):
            clock = Clock(stamps)
            env = StampedEnv(clock, clock.newest)
            chunks: list[Chunk] = []
            start = EpisodeStart(EpisodeMode.DEMONSTRATION, number, seed=0)
            run_episode(env, Swaying(), start, ChunkFormat(SPEC, size=size), on_chunk=chunks.append)
            for chunk in chunks:
                file.append(chunk, env.stamps(chunk.first_step, len(chunk)))
    return list(open_recording(path).episodes())


@given(
    episodes=st.lists(st.lists(st.integers(0, 2**40), min_size=2, max_size=30), min_size=1, max_size=3),
    size=st.integers(1, 12),
)
def test_each_observation_keeps_its_stamp(
    tmp_path_factory: pytest.TempPathFactory, episodes: list[list[int]], size: int
) -> None:
    found = recorded(tmp_path_factory.mktemp("file") / "file.serl", episodes, size)
    assert all(episode.stamped for episode in found)
    assert [episode.stamp.tolist() for episode in found] == episodes


def test_a_check_of_the_file_sees_frames_that_were_dropped_and_a_clock_that_jumped(tmp_path: Path) -> None:
    even = np.arange(12) * PERIOD
    late = even + np.where(np.arange(12) > 4, 2 * PERIOD, 0)
    jumped = even + np.where(np.arange(12) > 7, 30 * NANOSECONDS, 0)
    survey = Survey(RecordingSpec(SPEC, RATE))
    for episode in recorded(tmp_path / "file.serl", [each.tolist() for each in (even, late, jumped)], size=5):
        survey.add(episode)
    findings = "\n".join(survey.findings)
    assert "episode 0" not in findings
    assert "episode 1 of actor: 2 frames were dropped, the first behind step 4" in findings
    assert "episode 2 of actor: the clock jumps at step 8 by 30.100 s (1 times)" in findings


def test_steps_that_were_not_are_no_stamps() -> None:
    clock = Clock([0, 1, 2])
    env = StampedEnv(clock, clock.newest)
    with pytest.raises(IndexError):
        env.stamps(0, 0)
    env.reset()
    env.step(np.zeros(1, np.float32))
    np.testing.assert_array_equal(env.stamps(0, 1), [0, 1])
    with pytest.raises(IndexError, match="steps 1 to 2: the episode has had 1"):
        env.stamps(1, 1)
