# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pydantic import ValidationError
from serl_rl.backends import make_policy
from serl_rl.config import BCConfig, VisionConfig
from serl_rl.jax import bc
from serl_rl.jax.bc import BCAgent, ChunkPolicy
from serl_rl.storage.chunk import TransitionSpec

pytestmark = pytest.mark.usefixtures("cheap_compilation")

SPEC = TransitionSpec({"state": ((3,), "float32")}, 2)
CONFIG = BCConfig(hidden_sizes=(8, 8), dropout=0.0, chunk=3, execute=2, learning_rate=1e-2)

actor_loss = jax.jit(bc.actor_loss)


def make_agent(seed: int = 0, **changes: Any) -> BCAgent:
    return BCAgent.create(seed, SPEC, replace(CONFIG, **changes), VisionConfig())


def make_batch(seed: int = 0, shape: tuple[int, ...] = (), size: int = 16, chunk: int = 3) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {
        "observation": {"state": rng.standard_normal((*shape, size, 3), dtype=np.float32)},
        "action": rng.uniform(-1, 1, (*shape, size, chunk, 2)).astype(np.float32),
        "valid": np.ones((*shape, size, chunk), np.float32),
    }


def predicted(agent: BCAgent, state: np.ndarray) -> np.ndarray:
    params = {"params": agent.actor["params"]}
    return np.asarray(ChunkPolicy(agent.config, 2).apply(params, jnp.asarray(state)))


def test_the_loss_is_the_squared_error_of_the_actions_of_a_chunk():
    agent, batch = make_agent(), make_batch()
    expected = np.mean(np.square(predicted(agent, batch["observation"]["state"]) - batch["action"]))
    assert float(actor_loss(agent, agent.actor, batch, jax.random.key(0))[0]) == pytest.approx(expected, rel=1e-5)


def test_what_lies_behind_the_end_of_the_episode_is_not_imitated():
    agent, batch = make_agent(), make_batch()
    batch["valid"][:5, 1:] = 0.0
    loss = actor_loss(agent, agent.actor, batch, jax.random.key(0))[0]
    batch["action"][:5, 1:] = 0.5
    assert actor_loss(agent, agent.actor, batch, jax.random.key(0))[0] == loss
    batch["action"][:5, :1] = 0.5
    assert actor_loss(agent, agent.actor, batch, jax.random.key(0))[0] != loss


def test_dropout_is_random_in_training_and_absent_in_acting():
    agent, batch = make_agent(dropout=0.5), make_batch()
    losses = {float(actor_loss(agent, agent.actor, batch, jax.random.key(seed))[0]) for seed in range(4)}
    assert len(losses) == 4
    state = batch["observation"]["state"]
    np.testing.assert_array_equal(predicted(agent, state), predicted(agent, state))
    plain = make_agent(dropout=0.0)
    losses = {float(actor_loss(plain, plain.actor, batch, jax.random.key(seed))[0]) for seed in range(4)}
    assert len(losses) == 1


def test_every_update_drops_out_something_else():
    losses = []
    for dropout in (0.5, 0.0):
        agent, batch = make_agent(dropout=dropout, learning_rate=1e-12), make_batch(shape=(1, 1))
        for _ in range(2):
            agent, info = agent.update(batch)
            losses.append(float(info["actor_loss"]))
    assert losses[0] != losses[1]
    assert losses[2] == pytest.approx(losses[3], rel=1e-6), "the parameters stay as they are"


def test_actors_execute_what_the_learner_predicts_and_then_look_again():
    agent = make_agent(seed=3)
    snapshot = agent.policy_snapshot()
    policy = make_policy(type(snapshot).from_bytes(snapshot.to_bytes()))
    policy.check(SPEC)
    states = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
    wanted = predicted(agent, states)
    # Of the three actions of a chunk two are executed: looks at 0, 2 and 4.
    expected = [wanted[0, 0], wanted[0, 1], wanted[2, 0], wanted[2, 1], wanted[4, 0]]
    found = [policy.act({"state": state}, deterministic=True) for state in states]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_a_new_episode_begins_with_a_look():
    policy = make_policy(make_agent(seed=3).policy_snapshot())
    first, second = np.zeros(3, np.float32), np.ones(3, np.float32)
    fresh = policy.act({"state": second}, deterministic=True)
    policy.reset()
    policy.act({"state": first}, deterministic=True)
    policy.reset()
    np.testing.assert_array_equal(policy.act({"state": second}, deterministic=True), fresh)


def test_it_does_not_explore():
    policy = make_policy(make_agent().policy_snapshot())
    one = {"state": np.ones(3, np.float32)}
    drawn = []
    for _ in range(3):
        policy.reset()
        drawn.append(policy.act(one, deterministic=False, rng=np.random.default_rng()))
    np.testing.assert_array_equal(drawn[0], drawn[1])
    np.testing.assert_array_equal(drawn[0], drawn[2])


def test_more_actions_than_a_chunk_has_cannot_be_executed():
    with pytest.raises(ValidationError, match="expected at most 3, the actions of a chunk, found 4"):
        BCConfig(chunk=3, execute=4)


def test_the_second_call_compiles_nothing_and_a_state_comes_back():
    batch = make_batch(shape=(2, 2))
    agent, _ = make_agent().update(batch)
    compiled = bc._update.compiled
    arrays = agent.arrays()
    first, info = agent.update(batch)
    again, _ = make_agent(seed=1).with_arrays(arrays).update(batch)
    assert bc._update.compiled == compiled
    assert all(first.arrays()[name].tobytes() == array.tobytes() for name, array in again.arrays().items())
    assert int(first.updates) == 8
    assert set(info) == {"actor_loss"}
