# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serl_rl.data import Chunk, TransitionSpec
from serl_rl.replay import ReplayBuffer, empty_batch, map_batch


def transitions_of(chunk: Chunk) -> list[dict[str, Any]]:
    """What a list of plain transitions would hold."""
    return [
        {
            "observation": {name: rows[i] for name, rows in chunk.observation.items()},
            "next_observation": {name: rows[i + 1] for name, rows in chunk.observation.items()},
            "action": chunk.action[i],
            "reward": chunk.reward[i],
            "mask": chunk.mask[i],
        }
        for i in range(len(chunk))
    ]


def as_rows(batch: dict[str, Any]) -> list[dict[str, Any]]:
    return [map_batch(lambda rows, i=i: rows[i], batch) for i in range(len(batch["reward"]))]


def assert_same(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        for key in ("action", "reward", "mask"):
            assert np.array_equal(one[key], other[key])
        for side in ("observation", "next_observation"):
            for name in other[side]:
                assert np.array_equal(one[side][name], other[side][name])


@st.composite
def interleaved(draw: st.DrawFn) -> list[tuple[int, int, int, bool]]:
    """(actor, episode, first step, length, ends) of chunks as several actors send them, episodes mixed."""
    state = {actor: (actor * 1000, 0) for actor in range(draw(st.integers(1, 3)))}
    chunks = []
    for _ in range(draw(st.integers(1, 25))):
        actor = draw(st.sampled_from(sorted(state)))
        episode, step = state[actor]
        length, ends = draw(st.integers(1, 6)), draw(st.booleans())
        chunks.append((actor, episode, step, length, ends))
        state[actor] = (episode + 1, 0) if ends else (episode, step + length)
    return chunks


def build(make_chunk, spec: TransitionSpec, plan: list[tuple[int, int, int, int, bool]]) -> list[Chunk]:
    """Chunks of a plan, where a chunk that goes on starts with the last observation of the one before."""
    chunks, newest = [], {}
    for seed, (actor, episode, step, length, ends) in enumerate(plan):
        chunk = make_chunk(
            spec, length, seed=seed, last=ends, actor_id=f"actor{actor}", episode=episode, first_step=step
        )
        if step:
            for name, rows in chunk.observation.items():
                rows[0] = newest[actor][name]
        newest[actor] = {name: rows[-1] for name, rows in chunk.observation.items()}
        chunks.append(chunk)
    return chunks


@given(interleaved(), st.integers(1, 40))
def test_vectors_the_buffer_is_the_newest_transitions(make_chunk, state_spec, plan, capacity):
    buffer, naive = ReplayBuffer(state_spec, capacity), []
    for chunk in build(make_chunk, state_spec, plan):
        buffer.insert(chunk)
        naive = (naive + transitions_of(chunk))[-capacity:]
        assert len(buffer) == len(naive)
    assert_same(as_rows(buffer.transitions()), naive)


@given(interleaved(), st.integers(1, 40))
def test_frames_the_buffer_is_the_newest_transitions(make_chunk, image_spec, plan, capacity):
    buffer, naive = ReplayBuffer(image_spec, capacity), []
    for chunk in build(make_chunk, image_spec, plan):
        buffer.insert(chunk)
        naive += transitions_of(chunk)
        assert 1 <= len(buffer) <= min(capacity, len(naive))
        # Pieces of one transition need two frames each; half of the capacity is the least that is kept.
        assert len(buffer) >= min(len(naive), capacity // 2)
    assert_same(as_rows(buffer.transitions()), naive[-len(buffer) :])


@given(st.integers(8, 40), st.integers(1, 6))
def test_frames_with_whole_episodes_the_capacity_is_reached(make_chunk, image_spec, length, episodes):
    buffer = ReplayBuffer(image_spec, capacity=50)
    for episode in range(episodes):
        buffer.insert(make_chunk(image_spec, length, seed=episode, last=True, episode=episode))
    assert len(buffer) == min(50, length * episodes)


def test_frames_of_an_episode_are_stored_once(make_episode, image_spec):
    buffer = ReplayBuffer(image_spec, capacity=64)
    for chunk in make_episode(image_spec, 64, pieces=list(range(1, 64))):
        buffer.insert(chunk)
    assert len(buffer) == 64
    assert buffer._frames_written == 65


def test_a_frame_that_differs_is_not_shared(make_chunk, image_spec):
    first = make_chunk(image_spec, 3, seed=1)
    second = make_chunk(image_spec, 3, seed=2, first_step=3)  # goes on, but from another observation
    buffer = ReplayBuffer(image_spec, capacity=20)
    buffer.insert(first)
    buffer.insert(second)
    assert_same(as_rows(buffer.transitions()), transitions_of(first) + transitions_of(second))


@settings(max_examples=20)
@given(st.integers(0, 2**32))
def test_samples_are_stored_transitions_drawn_uniformly(make_chunk, image_spec, seed):
    buffer = ReplayBuffer(image_spec, capacity=10)
    for episode in range(3):
        buffer.insert(make_chunk(image_spec, 6, seed=episode, last=True, episode=episode))
    stored = as_rows(buffer.transitions())
    index = {row["reward"].tobytes(): i for i, row in enumerate(stored)}
    drawn = as_rows(buffer.sample(np.random.default_rng(seed), 2000))
    places = [index[row["reward"].tobytes()] for row in drawn]
    for row, place in list(zip(drawn, places, strict=True))[:50]:
        assert_same([row], [stored[place]])
    counts = np.bincount(places, minlength=10)
    # 2000 draws of probability 0.1: standard deviation 13.4; seven of them happen once in 10^11.
    assert np.abs(counts - 200).max() < 7 * 13.4


@pytest.mark.parametrize("spec_name", ["state_spec", "image_spec"])
def test_sampling_into_a_view_changes_nothing_else(make_chunk, spec_name, request):
    spec = request.getfixturevalue(spec_name)
    buffer = ReplayBuffer(spec, 20)
    buffer.insert(make_chunk(spec, 20))
    batch = empty_batch(spec, (3, 8))
    for value in [
        batch["action"],
        batch["reward"],
        *batch["observation"].values(),
        *batch["next_observation"].values(),
    ]:
        value[...] = 77
    buffer.sample_into(np.random.default_rng(0), map_batch(lambda rows: rows[:, :4], batch))
    assert (batch["reward"][:, 4:] == 77).all()
    assert np.isin(batch["reward"][:, :4], buffer.transitions()["reward"]).all()
    for side in ("observation", "next_observation"):
        for name, rows in batch[side].items():
            assert (rows[:, 4:] == 77).all()
            stored = buffer.transitions()[side][name].reshape(20, -1).tolist()
            assert all(row in stored for row in rows[:, :4].reshape(12, -1).tolist())


def test_an_empty_buffer_says_so(state_spec):
    with pytest.raises(ValueError, match="found none"):
        ReplayBuffer(state_spec, 5).sample(np.random.default_rng(0), 1)
    with pytest.raises(ValueError, match="capacity"):
        ReplayBuffer(state_spec, 0)


def test_truncation_reaches_the_batch_with_its_bootstrap(make_chunk, state_spec):
    cut = np.zeros(5, np.bool_)
    cut[-1] = True
    ended = make_chunk(state_spec, 5, truncated=cut, mask=np.ones(5, np.float32), last=True, success=False)
    buffer = ReplayBuffer(state_spec, 10)
    buffer.insert(ended)
    assert (buffer.transitions()["mask"] == 1.0).all()
