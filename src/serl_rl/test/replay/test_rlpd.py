# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
from serl_rl.config import BCConfig, DrQv2Config, LearningConfig
from serl_rl.replay.buffer import ReplayBuffer, map_batch
from serl_rl.replay.sampler import SymmetricSampler, make_sampler
from serl_rl.spec import TransitionSpec


@pytest.fixture
def buffers(state_spec) -> tuple[ReplayBuffer, ReplayBuffer]:
    return ReplayBuffer(state_spec, 100), ReplayBuffer(state_spec, 100)


@pytest.fixture
def pixel_buffers() -> tuple[ReplayBuffer, ReplayBuffer]:
    spec = TransitionSpec({"front": ((256, 256, 3), "uint8")}, action_dim=2)
    return ReplayBuffer(spec, 100), ReplayBuffer(spec, 100)


def marked(make_chunk, spec, reward: float):
    return make_chunk(spec, 30, reward=np.full(30, reward, np.float32))


@pytest.mark.parametrize(("size", "shown"), [(8, 4), (7, 3), (2, 1)])
def test_every_minibatch_is_half_demonstrations(make_chunk, state_spec, buffers, size, shown):
    online, demonstrations = buffers
    online.insert(marked(make_chunk, state_spec, 1.0))
    demonstrations.insert(marked(make_chunk, state_spec, 2.0))
    batch = SymmetricSampler(online, demonstrations, size, seed=0).sample(n_steps=3, utd_ratio=2)
    assert batch["observation"]["state"].shape == (3, 2, size, 5)
    assert ((batch["reward"] == 2.0).sum(axis=-1) == shown).all()


def test_batches_that_no_memory_holds_are_refused_by_name(pixel_buffers):
    config = LearningConfig(batch_size=2**16, utd_ratio=1000)
    with pytest.raises(ValueError, match=r"utd_ratio, batch_size: expected at most \d+ transitions .* 1000 x 65536"):
        make_sampler(config, *pixel_buffers, None, 0)


def test_while_one_buffer_is_empty_the_other_fills_the_batch(make_chunk, state_spec, buffers):
    online, demonstrations = buffers
    sampler = SymmetricSampler(online, demonstrations, 8, seed=0)
    with pytest.raises(ValueError, match="found none"):
        sampler.sample(1, 1)
    demonstrations.insert(marked(make_chunk, state_spec, 2.0))
    assert (sampler.sample(2, 1)["reward"] == 2.0).all()
    online.insert(marked(make_chunk, state_spec, 1.0))
    empty = ReplayBuffer(state_spec, 10)
    assert (SymmetricSampler(online, empty, 8, seed=0).sample(2, 1)["reward"] == 1.0).all()


def test_a_batch_stays_as_it_is_while_later_ones_are_drawn(make_chunk, state_spec, buffers):
    online, demonstrations = buffers
    online.insert(make_chunk(state_spec, 30))
    sampler = SymmetricSampler(online, demonstrations, 8, seed=0)
    first = sampler.sample(2, 2)
    copy = map_batch(np.copy, first)
    for _ in range(3):
        assert not np.array_equal(sampler.sample(2, 2)["reward"], copy["reward"])
    assert np.array_equal(first["reward"], copy["reward"])


def test_the_seed_decides_the_sample(make_chunk, state_spec, buffers):
    online, demonstrations = buffers
    online.insert(make_chunk(state_spec, 30))
    draws = [SymmetricSampler(online, demonstrations, 8, seed).sample(1, 1)["reward"].tolist() for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]


def test_a_batch_of_one_is_refused(buffers):
    with pytest.raises(ValueError, match="batch_size"):
        SymmetricSampler(*buffers, 1, seed=0)


def ended(make_chunk, spec, marks: list[float]):
    """Chunks that end; the next observations of the last transitions are all `mark`."""
    for episode, mark in enumerate(marks):
        chunk = make_chunk(spec, 6, seed=episode, episode=episode, last=True)
        chunk.observation["state"][-1] = mark
        yield chunk


def test_goals_are_drawn_beside_the_batch_as_often_as_own_experience(make_chunk, state_spec, buffers):
    online, demonstrations = buffers
    goals = ReplayBuffer(state_spec, 10)
    sampler = SymmetricSampler(online, demonstrations, 7, seed=0, goals=goals)
    online.insert(make_chunk(state_spec, 30))
    demonstrations.insert(make_chunk(state_spec, 30))
    with pytest.raises(ValueError, match="goals: expected at least one demonstration that succeeded"):
        sampler.sample(1, 1)
    for chunk in ended(make_chunk, state_spec, [7.0, 8.0]):
        goals.insert(chunk.skip(len(chunk) - 1))
    batch = sampler.sample(3, 2)
    assert batch["goal"]["state"].shape == (3, 2, 4, 5)
    assert set(np.unique(batch["goal"]["state"])) == {7.0, 8.0}
    assert sampler.empty(3, 2)["goal"]["state"].shape == (3, 2, 4, 5)


@pytest.mark.parametrize("agent", ["sac", "drqv2", "hybrid", "vice", "bc"])
def test_each_algorithm_gets_the_batches_that_it_learns_from(agent, make_chunk, state_spec, buffers):
    online, demonstrations = buffers
    config = LearningConfig(agent=agent, batch_size=8, bc=BCConfig(chunk=3), drqv2=DrQv2Config(n_step=2, discount=0.5))
    goals = ReplayBuffer(state_spec, 10) if agent == "vice" else None
    sampler = make_sampler(config, online, demonstrations, goals, seed=0)
    online.insert(marked(make_chunk, state_spec, 1.0))
    if agent == "bc":
        with pytest.raises(ValueError, match="demonstrations: expected at least one to learn from"):
            sampler.sample(1, 1)
    for chunk in ended(make_chunk, state_spec, [7.0]):
        demonstrations.insert(chunk)
        if goals is not None:
            goals.insert(chunk.skip(5))
    batch = sampler.sample(1, 1)
    special = {"drqv2": {"discount"}, "vice": {"goal"}, "bc": {"valid"}}.get(agent, set())
    assert set(batch) == {"observation", "next_observation", "action", "reward", "mask"} | special
    assert (batch["reward"] == 1.0).any() == (agent not in ("bc", "drqv2"))  # none of one's own, sums of two
    if agent == "drqv2":
        assert set(np.unique(batch["discount"])) <= {0.5, 0.25}
        assert (batch["reward"] == 1.5).any()
    if agent == "bc":
        assert batch["action"].shape == (1, 1, 8, 3, 2)
