# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from serl_rl.backends import make_policy
from serl_rl.config import DrQv2Config, VisionConfig
from serl_rl.jax import drqv2
from serl_rl.jax.drqv2 import DrQv2Agent, noise_scale, noisy_action
from serl_rl.storage.chunk import TransitionSpec

pytestmark = pytest.mark.usefixtures("cheap_compilation")

SPEC = TransitionSpec({"state": ((3,), "float32")}, 2)
CONFIG = DrQv2Config(hidden_sizes=(8,), noise_start=1.0, noise_end=0.2, noise_steps=10, noise_clip=0.3)

critic_loss, actor_loss = jax.jit(drqv2.critic_loss), jax.jit(drqv2.actor_loss)
critic_step, actor_step = jax.jit(drqv2.critic_step), jax.jit(drqv2.actor_step)


def make_agent(seed: int = 0, **changes: Any) -> DrQv2Agent:
    return DrQv2Agent.create(seed, SPEC, replace(CONFIG, **changes), VisionConfig())


def make_batch(seed: int = 0, shape: tuple[int, ...] = (), size: int = 16) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {
        "observation": {"state": rng.standard_normal((*shape, size, 3), dtype=np.float32)},
        "next_observation": {"state": rng.standard_normal((*shape, size, 3), dtype=np.float32)},
        "action": rng.uniform(-1, 1, (*shape, size, 2)).astype(np.float32),
        "reward": rng.standard_normal((*shape, size), dtype=np.float32),
        "discount": rng.uniform(0.5, 1.0, (*shape, size)).astype(np.float32),
        "mask": rng.integers(0, 2, (*shape, size)).astype(np.float32),
    }


def changed(before: DrQv2Agent, after: DrQv2Agent) -> set[str]:
    old, new = before.arrays(), after.arrays()
    return {name.split("/")[0] for name in old if old[name].tobytes() != new[name].tobytes()}


@pytest.mark.parametrize(("steps", "scale"), [(0, 1.0), (5, 0.6), (10, 0.2), (1000, 0.2)])
def test_the_noise_comes_down_on_a_line_and_stays(steps, scale):
    assert float(noise_scale(CONFIG, jnp.asarray(steps))) == pytest.approx(scale)


def test_the_noise_comes_down_with_the_environment_steps_that_were_trained_for():
    agent, _ = make_agent().update(make_batch(shape=(2, 2)))
    assert int(agent.env_steps) == 2
    assert int(agent.updates) == 4
    assert float(noise_scale(agent.config, agent.env_steps)) == pytest.approx(0.84)


def test_noise_in_losses_is_clipped_and_actions_stay_in_bounds():
    mean = jnp.asarray([[0.0, 0.95]] * 500)
    actions = noisy_action(jax.random.key(0), mean, jnp.asarray(5.0), 0.3)
    assert float(jnp.abs(actions[:, 0]).max()) == pytest.approx(0.3, rel=1e-5)
    assert float(actions[:, 1].max()) == 1.0
    assert float(actions[:, 1].min()) == pytest.approx(0.65, rel=1e-5)
    np.testing.assert_allclose(noisy_action(jax.random.key(0), mean, jnp.asarray(0.0), 0.3), mean)


def test_an_action_that_noise_pushed_to_the_bound_still_moves_with_the_policy():
    slope = jax.grad(lambda mean: noisy_action(jax.random.key(0), mean, jnp.asarray(5.0), 0.3).sum())
    np.testing.assert_allclose(slope(jnp.full((50, 1), 0.99)), 1.0)


def test_the_target_is_the_return_of_n_steps_and_the_smaller_value_behind_them():
    agent, batch, key = make_agent(), make_batch(), jax.random.key(5)
    following, now = batch["next_observation"]["state"], batch["observation"]["state"]
    mean = drqv2.policy(agent, agent.actor, following)
    action = jnp.clip(mean + jnp.clip(1.0 * jax.random.normal(key, mean.shape), -0.3, 0.3), -1.0, 1.0)
    next_q = drqv2.q_values(agent, agent.target_critic, following, action)
    assert next_q.shape == (2, 16)
    target = batch["reward"] + batch["discount"] * batch["mask"] * np.minimum(*next_q)
    q = drqv2.q_values(agent, agent.critic, now, batch["action"])
    expected = float(jnp.mean(jnp.square(q - target)))
    assert float(critic_loss(agent, agent.critic, batch, key)[0]) == pytest.approx(expected, rel=1e-5)


def test_no_gradient_flows_through_the_target():
    agent, batch, key = make_agent(), make_batch(), jax.random.key(5)

    def loss(actor: Any, target: Any) -> jax.Array:
        return drqv2.critic_loss(agent.replace(actor=actor, target_critic=target), agent.critic, batch, key)[0]

    gradients = jax.jit(jax.grad(loss, argnums=(0, 1)))(agent.actor, agent.target_critic)
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(gradients))


def test_the_actor_climbs_the_smaller_value():
    agent, batch, key = make_agent(), make_batch(), jax.random.key(1)
    slopes = jax.jit(jax.grad(drqv2.actor_loss, argnums=1, has_aux=True))(agent, agent.actor, batch, key)[0]
    moved = jax.tree.map(lambda value, slope: value - 1e-2 * slope, agent.actor, slopes)
    assert actor_loss(agent, moved, batch, key)[0] < actor_loss(agent, agent.actor, batch, key)[0]
    action = noisy_action(key, drqv2.policy(agent, agent.actor, batch["observation"]["state"]), jnp.asarray(1.0), 0.3)
    q = drqv2.q_values(agent, agent.critic, batch["observation"]["state"], action)
    assert float(actor_loss(agent, agent.actor, batch, key)[0]) == pytest.approx(-float(q.min(0).mean()), rel=1e-5)


def test_each_step_leaves_the_other_network_alone():
    agent, batch = make_agent(), make_batch()
    agent, _ = agent.update(make_batch(shape=(2, 2)))  # now every optimizer has momentum
    assert changed(agent, critic_step(agent, batch)[0]) == {
        "critic",
        "critic_optimizer",
        "target_critic",
        "key",
        "updates",
    }
    assert changed(agent, actor_step(agent, batch)[0]) == {"actor", "actor_optimizer", "key", "env_steps"}


def test_actors_compute_the_policy_of_the_learner_and_add_its_noise():
    agent = make_agent(seed=2).replace(env_steps=jnp.asarray(5, jnp.int32))
    snapshot = agent.policy_snapshot()
    policy = make_policy(type(snapshot).from_bytes(snapshot.to_bytes()))
    policy.check(SPEC)
    one = {"state": np.asarray([0.3, -0.2, 0.9], np.float32)}
    mean = np.asarray(drqv2.policy(agent, agent.actor, one["state"][None])[0])
    np.testing.assert_allclose(policy.act(one, deterministic=True), mean, rtol=1e-4, atol=1e-5)
    rng = np.random.default_rng(0)
    drawn = np.stack([policy.act(one, deterministic=False, rng=rng) for _ in range(3000)])
    expected = np.clip(mean + 0.6 * np.random.default_rng(1).standard_normal((3000, 2)), -1, 1)
    np.testing.assert_allclose(drawn.std(axis=0), expected.std(axis=0), atol=0.03)
    np.testing.assert_allclose(drawn.mean(axis=0), expected.mean(axis=0), atol=0.05)


def test_the_second_call_compiles_nothing_and_a_state_comes_back():
    batch = make_batch(shape=(2, 2))
    agent, _ = make_agent().update(batch)
    compiled = drqv2._update.compiled
    arrays = agent.arrays()
    first, info = agent.update(batch)
    again, _ = make_agent(seed=1).with_arrays(arrays).update(batch)
    assert drqv2._update.compiled == compiled
    assert changed(first, again) == set()
    assert {"critic_loss", "actor_loss", "noise"} <= set(info)
