# SPDX-License-Identifier: Apache-2.0
"""Chunks against the list of transitions of the episode they came from."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from serl_rl.spec import TransitionSpec
from serl_rl.storage.chunk import Chunk, encode_chunk
from serl_training.actor.rollout import ChunkFormat, run_episode
from serl_training.env.episode import (
    EpisodeDiscarded,
    EpisodeLost,
    EpisodeMode,
    EpisodeStart,
    WorldBroken,
    episode_seed,
)

SPEC = TransitionSpec({"state": ((2,), "float32")}, 1)


def start(number: int) -> EpisodeStart:
    return EpisodeStart(EpisodeMode.TRAINING, number, seed=0)


class Counting(gym.Env):
    """State is (episode, step); ends after `length` steps, truly or by the time limit, or is lost at `lost_at`."""

    observation_space = gym.spaces.Dict({"state": gym.spaces.Box(-1e6, 1e6, (2,), np.float32)})
    action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(
        self, length: int, terminates: bool, lost_at: int | None = None, lost_by: type[EpisodeLost] = EpisodeLost
    ) -> None:
        self.length, self.terminates, self.lost_at, self.lost_by = length, terminates, lost_at, lost_by

    def _state(self) -> dict[str, np.ndarray]:
        return {"state": np.array([self.episode, self.count], np.float32)}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict, dict]:
        super().reset(seed=seed)
        self.episode, self.count = (options or {})["episode"], 0
        return self._state(), {}

    def step(self, action: np.ndarray) -> tuple[dict, float, bool, bool, dict]:
        if self.count == self.lost_at:
            raise self.lost_by("bridge gone")
        self.count += 1
        over = self.count == self.length
        info = {
            "executed_action": np.clip(action, -0.5, 0.5),
            "intervention": self.count % 3 == 0,
            "success": over and self.terminates,
        }
        return self._state(), float(self.count), over and self.terminates, over and not self.terminates, info


class Always:
    def reset(self) -> None:
        pass

    def act(self, observation: dict, info: dict) -> tuple[np.ndarray, int]:
        return np.ones(1, np.float32), int(observation["state"][1])


@given(
    length=st.integers(1, 40),
    size=st.integers(1, 12),
    said_after=st.integers(0, 40),
    steps=st.none() | st.integers(1, 50),
    whole=st.booleans(),
)
def test_what_is_discarded_is_not_learned_from_and_what_is_before_was_truncated(
    length: int, size: int, said_after: int, steps: int | None, whole: bool
) -> None:
    discarded = EpisodeDiscarded("a person said so", steps)
    done = iter(range(said_after))
    chunks: list[Chunk] = []
    cuts: list[int] = []

    def before_step() -> None:
        if next(done, None) is None:
            raise discarded

    def at_end() -> None:
        if said_after == length:  # said in the last step
            raise discarded

    def go() -> int:
        return run_episode(
            Counting(length, terminates=True),
            Always(),
            start(7),
            ChunkFormat(SPEC, size=size),
            on_chunk=chunks.append,
            on_discard=cuts.append,
            before_step=before_step,
            at_end=at_end,
            whole=whole,
        ).length

    if said_after > length:
        assert go() == length
        assert not cuts
        return
    with pytest.raises(EpisodeDiscarded):
        go()
    kept = 0 if steps is None else max(0, said_after - steps)
    assert not cuts or not whole, "nothing had been handed over"
    assert cuts in ([], [kept])
    left = [piece for chunk in chunks if (piece := chunk.before(cuts[0]) if cuts else chunk) is not None]
    rewards = [reward for chunk in left for reward in chunk.reward.tolist()]
    assert rewards == list(range(1, kept + 1))
    assert all(chunk.mask.all() for chunk in left)
    assert [chunk.last for chunk in left] == [False] * (len(left) - 1) + [True] * bool(left)


@given(length=st.integers(1, 40), size=st.integers(1, 12), terminates=st.booleans())
def test_chunks_hold_the_episode_and_nothing_else(length: int, size: int, terminates: bool) -> None:
    chunks: list[Chunk] = []
    summary = run_episode(
        Counting(length, terminates), Always(), start(7), ChunkFormat(SPEC, size=size), on_chunk=chunks.append
    )
    for chunk in chunks:
        chunk.check(SPEC)
    assert (summary.length, summary.success) == (length, terminates)
    assert summary.total_reward == sum(range(length + 1))
    assert [len(chunk) for chunk in chunks[:-1]] == [size] * (len(chunks) - 1)
    assert np.concatenate([chunk.reward for chunk in chunks]).tolist() == list(range(1, length + 1))
    rows = [row for chunk in chunks for row in chunk.observation["state"][:-1, 1].tolist()]
    following = [row for chunk in chunks for row in chunk.observation["state"][1:, 1].tolist()]
    assert rows == list(range(length))
    assert following == list(range(1, length + 1))
    assert all((chunk.action == 0.5).all() for chunk in chunks), "what was executed is stored, not what was wanted"
    mask = np.concatenate([chunk.mask for chunk in chunks])
    truncated = np.concatenate([chunk.truncated for chunk in chunks])
    assert mask.tolist() == [1.0] * (length - 1) + [0.0 if terminates else 1.0]
    assert truncated.tolist() == [False] * (length - 1) + [not terminates]
    assert [chunk.last for chunk in chunks] == [False] * (len(chunks) - 1) + [True]


class Filmed(Counting):
    """The step is in the picture too."""

    def _state(self) -> dict[str, np.ndarray]:
        return super()._state() | {"wrist": np.full((1, 1, 1), self.count, np.uint8)}


@given(length=st.integers(1, 40), size=st.integers(1, 12), stack=st.integers(1, 5))
def test_chunks_have_the_frames_that_stacks_need(length: int, size: int, stack: int) -> None:
    chunks: list[Chunk] = []
    spec = TransitionSpec({"state": ((2,), "float32"), "wrist": ((1, 1, 1), "uint8")}, 1, frame_stack=stack)
    run_episode(
        Filmed(length, True),
        Always(),
        start(1),
        ChunkFormat(spec, size=size),
        on_chunk=chunks.append,
    )
    for chunk in chunks:
        chunk.check(spec)
        frames = chunk.observation["wrist"].ravel().tolist()
        assert frames == list(range(max(chunk.first_step - stack + 1, 0), chunk.first_step + len(chunk) + 1))


@given(length=st.integers(2, 40), size=st.integers(1, 12), data=st.data())
def test_a_lost_episode_hands_over_what_there_was(length: int, size: int, data: st.DataObject) -> None:
    lost_at = data.draw(st.integers(0, length - 1))
    chunks: list[Chunk] = []
    with pytest.raises(EpisodeLost):
        run_episode(
            Counting(length, True, lost_at),
            Always(),
            start(1),
            ChunkFormat(SPEC, size=size),
            on_chunk=chunks.append,
        )
    assert sum(len(chunk) for chunk in chunks) == lost_at
    assert not any(chunk.last for chunk in chunks)


def test_start_seeds_depend_on_purpose_and_number_only() -> None:
    assert episode_seed(0, "training", 3) == episode_seed(0, "training", 3)
    seeds = {episode_seed(s, purpose, n) for s in range(3) for purpose in ("training", "evaluation") for n in range(50)}
    assert len(seeds) == 300


@given(lost_at=st.integers(0, 20), size=st.integers(1, 12), whole=st.booleans())
def test_what_is_handed_over_of_an_episode_that_is_lost(lost_at: int, size: int, whole: bool) -> None:
    """All that was measured where the graph failed; no more than was full before where the world broke."""
    stored: dict[type[EpisodeLost], int] = {}
    for reason in (EpisodeLost, WorldBroken):
        chunks: list[Chunk] = []
        with pytest.raises(reason):
            run_episode(
                Counting(30, True, lost_at, reason),
                Always(),
                start(1),
                ChunkFormat(SPEC, size=size),
                on_chunk=chunks.append,
                whole=whole,
            )
        stored[reason] = sum(len(chunk) for chunk in chunks)
    assert stored[EpisodeLost] == lost_at
    assert stored[WorldBroken] == (0 if whole else lost_at // size * size)


def test_an_episode_that_is_handed_over_as_a_whole_is_the_same_one() -> None:
    def chunks_of(whole: bool) -> list[Chunk]:
        chunks: list[Chunk] = []
        run_episode(Counting(21, True), Always(), start(3), ChunkFormat(SPEC), on_chunk=chunks.append, whole=whole)
        return chunks

    for one, other in zip(chunks_of(True), chunks_of(False), strict=True):
        assert encode_chunk(one, SPEC) == encode_chunk(other, SPEC)
