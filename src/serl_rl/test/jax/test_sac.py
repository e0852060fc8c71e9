# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from serl_rl.backends import make_policy
from serl_rl.config import EncoderConfig, SACConfig, VisionConfig
from serl_rl.jax import sac
from serl_rl.jax.sac import SACAgent, temperature_loss
from serl_rl.policy.snapshot import PolicySnapshot
from serl_rl.replay.buffer import map_batch
from serl_rl.storage.chunk import DataError, TransitionSpec

pytestmark = pytest.mark.usefixtures("cheap_compilation")

SPEC = TransitionSpec({"arm": ((3,), "float32"), "cube": ((2,), "float32")}, 2)
CONFIG = SACConfig(hidden_sizes=(8,))

# Without jit every single operation is compiled for itself, which takes far longer.
critic_step, actor_step, critic_loss, actor_loss = map(
    jax.jit, (sac.critic_step, sac.actor_step, sac.critic_loss, sac.actor_loss)
)
q_values = jax.jit(sac.q_values, static_argnums=2)
policy_of = jax.jit(sac.policy)


def make_batch(seed: int = 0, shape: tuple[int, ...] = (), size: int = 32) -> dict[str, Any]:
    rng = np.random.default_rng(seed)

    def observation() -> dict[str, np.ndarray]:
        return {
            name: rng.standard_normal((*shape, size, *entry.shape), dtype=np.float32)
            for name, entry in SPEC.observation.items()
        }

    return {
        "observation": observation(),
        "next_observation": observation(),
        "action": rng.uniform(-1, 1, (*shape, size, 2)).astype(np.float32),
        "reward": rng.standard_normal((*shape, size), dtype=np.float32),
        "mask": np.ones((*shape, size), np.float32),
    }


def flat(observation: dict[str, np.ndarray]) -> jax.Array:
    return jnp.concatenate([observation[name] for name in SPEC.observation], axis=-1)


def make_agent(seed: int = 0, **changes: Any) -> SACAgent:
    return SACAgent.create(seed, SPEC, replace(CONFIG, **changes))


def changed(before: SACAgent, after: SACAgent) -> set[str]:
    """First parts of the names of the arrays that differ by a single bit."""
    old, new = before.arrays(), after.arrays()
    assert old.keys() == new.keys()
    return {name.split("/")[0] for name in old if old[name].tobytes() != new[name].tobytes()}


CRITIC = {"critic", "critic_optimizer", "target_critic"}
ACTOR = {"actor", "actor_optimizer", "acting_average", "log_temperature", "temperature_optimizer"}


def test_a_critic_step_leaves_actor_and_temperature_alone_to_the_bit():
    agent = make_agent()
    agent, _ = agent.update(make_batch(shape=(2, 2)))  # now every optimizer has momentum
    before = agent
    for seed in range(8):
        agent, _ = critic_step(agent, make_batch(seed))
    assert changed(before, agent) == CRITIC | {"key", "updates"}


def test_an_actor_step_leaves_the_critics_alone_to_the_bit():
    agent = make_agent()
    agent, _ = agent.update(make_batch(shape=(2, 2)))
    after, _ = actor_step(agent, make_batch())
    assert changed(agent, after) == ACTOR | {"key"}


def test_an_update_is_utd_critic_steps_and_one_actor_step_for_each_env_step():
    batch = make_batch(shape=(2, 2))
    whole, _ = make_agent().update(batch)
    agent = make_agent()
    for step in range(2):
        for update in range(2):
            minibatch = map_batch(lambda rows, at=(step, update): rows[at], batch)
            agent, _ = critic_step(agent, minibatch)
        agent, _ = actor_step(agent, minibatch)
    assert int(whole.updates) == 4
    for name, array in agent.arrays().items():
        np.testing.assert_allclose(whole.arrays()[name], array, rtol=2e-4, atol=2e-5, err_msg=name)


def test_the_update_is_deterministic():
    results = [make_agent().update(make_batch(shape=(2, 2)))[0] for _ in range(2)]
    assert changed(*results) == set()
    assert changed(make_agent(0), make_agent(1)) >= {"key", "actor", "critic"}


def test_the_second_call_compiles_nothing():
    agent = make_agent(seed=3)
    agent, _ = agent.update(make_batch(shape=(2, 2)))
    compiled = sac._update.compiled
    for seed in range(3):
        agent, _ = agent.update(make_batch(seed, shape=(2, 2)))
    assert sac._update.compiled == compiled
    again = make_agent(seed=4).with_arrays(agent.arrays())  # nor does the first one after a checkpoint
    again.update(make_batch(shape=(2, 2)))
    assert sac._update.compiled == compiled


def test_no_scalar_is_weakly_typed():
    shapes = jax.tree.leaves(jax.tree.map(jax.typeof, make_agent()))
    assert not [shape for shape in shapes if shape.weak_type]


def expected_target(agent: SACAgent, batch: dict[str, Any], key: jax.Array) -> jax.Array:
    """The target by its definition, with the action that the loss draws from this key."""
    noise_key, _ = jax.random.split(key)
    following = flat(batch["next_observation"])
    mean, log_std = policy_of(agent, agent.actor, following)
    noise = jax.random.normal(noise_key, mean.shape)
    action = jnp.tanh(mean + jnp.exp(log_std) * noise)
    q = q_values(agent, agent.target_critic, agent.config.critics, following, action)
    return batch["reward"] + agent.config.discount * batch["mask"] * q.min(axis=0)


def test_the_critic_loss_is_the_squared_bellman_error():
    agent, batch, key = make_agent(critics=3), make_batch(), jax.random.key(5)
    batch["mask"][:10] = 0.0
    q = q_values(agent, agent.critic, 3, flat(batch["observation"]), batch["action"])
    expected = jnp.mean(jnp.square(q - expected_target(agent, batch, key)))
    assert critic_loss(agent, agent.critic, batch, key)[0] == pytest.approx(float(expected), rel=1e-5)


def test_only_the_mask_ends_the_bootstrap():
    agent, key = make_agent(), jax.random.key(5)
    batch = make_batch()
    terminal = batch | {"mask": np.zeros(32, np.float32)}
    shifted = batch | {"next_observation": make_batch(seed=9)["next_observation"]}

    def loss(of: dict[str, Any]) -> float:
        return float(critic_loss(agent, agent.critic, of, key)[0])

    assert loss(batch) != loss(shifted)
    assert loss(terminal) == loss(shifted | {"mask": np.zeros(32, np.float32)})


def test_no_gradient_flows_through_the_target():
    agent, batch, key = make_agent(), make_batch(), jax.random.key(5)

    def loss_of_rest(actor: Any, target: Any) -> jax.Array:
        return critic_loss(agent.replace(actor=actor, target_critic=target), agent.critic, batch, key)[0]

    gradients = jax.jit(jax.grad(loss_of_rest, argnums=(0, 1)))(agent.actor, agent.target_critic)
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(gradients))


def test_with_a_subset_targets_are_the_minimum_of_that_many_critics():
    agent, batch = make_agent(critics=5, critic_subset=2), make_batch()
    observation, action = flat(batch["next_observation"]), batch["action"]
    mean, log_std = policy_of(agent, agent.actor, observation)
    q_all = None
    for seed in range(20):
        key = jax.random.key(seed)
        noise_key, subset_key = jax.random.split(key)
        chosen = np.asarray(jax.random.permutation(subset_key, 5)[:2])
        assert len(set(chosen.tolist())) == 2
        action = jnp.tanh(mean + jnp.exp(log_std) * jax.random.normal(noise_key, mean.shape))
        q_all = q_values(agent, agent.target_critic, 5, observation, action)
        target = batch["reward"] + agent.config.discount * q_all[chosen].min(axis=0)
        q = q_values(agent, agent.critic, 5, flat(batch["observation"]), batch["action"])
        expected = float(jnp.mean(jnp.square(q - target)))
        assert float(critic_loss(agent, agent.critic, batch, key)[0]) == pytest.approx(expected, rel=1e-5)


def test_the_entropy_bonus_is_in_the_target_only_when_asked_for():
    batch, key = make_batch(), jax.random.key(5)
    plain, bonus = (make_agent(backup_entropy=flag, initial_temperature=1.0) for flag in (False, True))
    assert critic_loss(plain, plain.critic, batch, key)[0] != critic_loss(bonus, bonus.critic, batch, key)[0]
    cold = replace(bonus.config, initial_temperature=1e-8)
    cold_agent = SACAgent.create(0, SPEC, cold)
    np.testing.assert_allclose(
        critic_loss(cold_agent, cold_agent.critic, batch, key)[0],
        critic_loss(plain, plain.critic, batch, key)[0],
        rtol=1e-5,
    )


def test_the_target_follows_the_critic_at_its_rate():
    agent = make_agent(target_rate=0.25)
    after, _ = critic_step(agent, make_batch())
    old, new = agent.arrays(), after.arrays()
    for name in (name for name in old if name.startswith("target_critic/")):
        critic = new[name.replace("target_critic/", "critic/")]
        np.testing.assert_allclose(new[name], 0.75 * old[name] + 0.25 * critic, rtol=1e-5, atol=1e-7)


def test_the_actor_climbs_the_value_and_the_entropy():
    agent, batch, key = make_agent(), make_batch(), jax.random.key(1)
    step = jax.jit(jax.grad(sac.actor_loss, argnums=1, has_aux=True))(agent, agent.actor, batch, key)[0]
    moved = jax.tree.map(lambda value, slope: value - 1e-3 * slope, agent.actor, step)
    assert actor_loss(agent, moved, batch, key)[0] < actor_loss(agent, agent.actor, batch, key)[0]


# Without a target of its own, two action components make it -1.
@pytest.mark.parametrize(
    ("target", "entropy", "direction"),
    [(-2.0, -2.1, 1.0), (-2.0, -1.9, -1.0), (None, -1.1, 1.0), (None, -0.9, -1.0)],
)
def test_the_temperature_drives_the_entropy_to_its_target(target, entropy, direction):
    agent = make_agent(target_entropy=target)
    slope = jax.grad(temperature_loss, argnums=1)(agent, agent.log_temperature, jnp.asarray(entropy))
    assert np.sign(-slope) == direction


def test_the_entropy_settles_at_its_target():
    rates = {"actor_lr": 1e-2, "critic_lr": 1e-2, "temperature_lr": 5e-2}
    agent = make_agent(target_entropy=-1.0, initial_temperature=1.0, **rates)
    entropies = []
    for seed in range(300):
        batch = make_batch(seed % 20, shape=(2, 2))
        batch["mask"][:] = 0.0
        batch["reward"] = -np.abs(batch["action"]).sum(-1)
        agent, info = agent.update(batch)
        entropies.append(float(info["entropy"]))
    assert np.mean(entropies[-100:]) == pytest.approx(-1.0, abs=0.3)


def test_the_density_of_squashed_samples_integrates_to_one():
    grid = np.linspace(-0.9999, 0.9999, 20001, dtype=np.float32)
    mean, log_std = jnp.asarray([0.3], jnp.float32), jnp.asarray([-0.5], jnp.float32)
    noise = (np.arctanh(grid)[:, None] - mean) / jnp.exp(log_std)
    action, log_prob = sac.squashed_sample(mean, log_std, noise)
    np.testing.assert_allclose(action[:, 0], grid, atol=1e-5)
    assert np.trapezoid(np.exp(log_prob), grid) == pytest.approx(1.0, abs=2e-3)


def test_squashed_samples_far_out_stay_finite():
    action, log_prob = sac.squashed_sample(jnp.full((1, 2), 50.0), jnp.zeros((1, 2)), jnp.ones((1, 2)))
    assert np.isfinite(log_prob).all()
    assert np.isfinite(action).all()


@pytest.mark.parametrize("changes", [{}, {"activation": "tanh", "hidden_sizes": (8, 4)}, {"layer_norm": False}])
def test_actors_compute_the_policy_of_the_learner(changes):
    agent = make_agent(**changes)
    policy = make_policy(PolicySnapshot.from_bytes(agent.policy_snapshot().to_bytes()))
    policy.check(SPEC)
    for seed in range(5):
        batch = make_batch(seed, size=1)
        one = {name: rows[0] for name, rows in batch["observation"].items()}
        expected = policy_of(agent, agent.acting_average["actor"], flat(one))
        mean, log_std = (np.ravel(value) for value in expected)
        np.testing.assert_allclose(policy.act(one, deterministic=True), np.tanh(mean), rtol=1e-4, atol=1e-5)
        noise = np.random.default_rng(seed).standard_normal(len(mean), dtype=np.float32)
        explored = policy.act(one, deterministic=False, rng=np.random.default_rng(seed))
        np.testing.assert_allclose(explored, np.tanh(mean + np.exp(log_std) * noise), rtol=1e-4, atol=1e-5)


def test_a_state_of_another_configuration_is_refused_by_name():
    arrays = make_agent().arrays()
    with pytest.raises(DataError, match=r"expected float32 .* found float32"):
        make_agent(hidden_sizes=(16,)).with_arrays(arrays)
    with pytest.raises(DataError, match="missing"):
        make_agent(hidden_sizes=(8, 8)).with_arrays(arrays)


def test_pictures_without_an_encoder_are_refused(image_spec):
    pixels = VisionConfig(encoder=EncoderConfig(cached=False))
    with pytest.raises(DataError, match="an encoder for the pictures, found none"):
        SACAgent.create(0, image_spec, CONFIG, pixels)
    with pytest.raises(DataError, match="observation wrist: expected features, found image"):
        SACAgent.create(0, image_spec, CONFIG)
