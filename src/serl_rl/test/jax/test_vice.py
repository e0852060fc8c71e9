# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from serl_rl.config import SACConfig, VICEConfig, VisionConfig
from serl_rl.jax import vice
from serl_rl.jax.vice import VICEAgent, gradient_penalty, mixup, reward_of, smoothed_labels
from serl_rl.storage.chunk import TransitionSpec

pytestmark = pytest.mark.usefixtures("cheap_compilation")

SPEC = TransitionSpec({"state": ((3,), "float32")}, 2)
CONFIG = VICEConfig(hidden_sizes=(8,), learning_rate=1e-2, interval=2)
SAC = SACConfig(hidden_sizes=(8,))

classifier_loss = jax.jit(vice.classifier_loss)
critic_step, actor_step = jax.jit(vice.critic_step), jax.jit(vice.actor_step)


def make_agent(seed: int = 0, **changes: Any) -> VICEAgent:
    return VICEAgent.create(seed, SPEC, replace(CONFIG, **changes), SAC, VisionConfig())


def make_batch(seed: int = 0, shape: tuple[int, ...] = (), size: int = 8) -> dict[str, Any]:
    rng = np.random.default_rng(seed)

    def observation(rows: int) -> dict[str, np.ndarray]:
        return {"state": rng.standard_normal((*shape, rows, 3), dtype=np.float32)}

    return {
        "observation": observation(size),
        "next_observation": observation(size),
        "goal": observation(size // 2),
        "action": rng.uniform(-1, 1, (*shape, size, 2)).astype(np.float32),
        "reward": rng.standard_normal((*shape, size), dtype=np.float32),
        "discount": np.full((*shape, size), 0.95, np.float32),
        "mask": np.ones((*shape, size), np.float32),
    }


def changed(before: VICEAgent, after: VICEAgent) -> set[str]:
    old, new = before.arrays(), after.arrays()
    return {name.split("/")[0] for name in old if old[name].tobytes() != new[name].tobytes()}


def test_labels_are_smoothed_towards_one_half():
    np.testing.assert_allclose(smoothed_labels(2, 1, 0.2), [0.9, 0.9, 0.1], rtol=1e-6)
    np.testing.assert_allclose(smoothed_labels(1, 1, 0.0), [1.0, 0.0])


def test_mixup_blends_labels_in_the_share_of_the_vectors():
    labels = jnp.asarray([0.0, 1.0, 0.0, 1.0, 0.25, 0.75])
    vectors = jnp.stack([labels, 2.0 * labels - 1.0], axis=-1)  # the vector says its label
    mixed, mixed_labels = mixup(jax.random.key(0), vectors, labels)
    np.testing.assert_allclose(mixed[:, 0], mixed_labels, rtol=1e-5)
    np.testing.assert_allclose(mixed[:, 1], 2.0 * mixed_labels - 1.0, rtol=1e-5, atol=1e-6)
    assert np.ptp(mixed_labels) > 0.0
    assert not np.allclose(mixed_labels, labels)


def test_the_gradient_penalty_of_a_linear_function_is_that_of_its_slope():
    slope = jnp.asarray([2.0, -1.0, 2.0])  # of length 3
    first, second = (jax.random.normal(jax.random.key(seed), (5, 3)) for seed in (1, 2))
    penalty = gradient_penalty(jax.random.key(0), lambda at: at @ slope, first, second)
    assert float(penalty) == pytest.approx((3.0 - 1.0) ** 2, rel=1e-5)
    assert float(gradient_penalty(jax.random.key(0), lambda at: at @ slope / 3.0, first, second)) < 1e-10


def test_the_gradient_penalty_looks_between_the_sets():
    """The slope of |x|^2 / 2 is x itself, so the penalty tells where it looked."""
    first, second = jnp.zeros((200, 1)), jnp.full((200, 1), 2.0)
    penalty = gradient_penalty(jax.random.key(0), lambda at: 0.5 * jnp.sum(at**2, axis=-1), first, second)
    assert float(penalty) == pytest.approx(1.0 / 3.0, abs=0.08)  # mean of (x - 1)^2 for x uniform in [0, 2]


def test_a_flat_classifier_has_a_finite_gradient_penalty():
    def penalty(scale: jax.Array) -> jax.Array:
        return gradient_penalty(jax.random.key(0), lambda at: scale * at.sum(-1), jnp.zeros((4, 3)), jnp.ones((4, 3)))

    assert np.isfinite(jax.grad(penalty)(0.0))


def test_rewards():
    odds = jnp.asarray([-20.0, -0.1, 0.0, 3.0])
    np.testing.assert_allclose(reward_of(odds, CONFIG), [0.0, 0.0, 1.0, 1.0])
    np.testing.assert_allclose(reward_of(odds, replace(CONFIG, reward="log_odds")), [-10.0, -0.1, 0.0, 3.0], rtol=1e-6)


def test_the_reward_of_the_batch_is_not_looked_at():
    batch = make_batch()
    one, _ = critic_step(make_agent(), batch)
    other, _ = critic_step(make_agent(), batch | {"reward": batch["reward"] + 100.0})
    assert changed(one, other) == set()


def test_the_reward_is_what_the_classifier_says_of_the_next_observation():
    agent, batch = make_agent(), make_batch()
    vectors = vice.encoded(agent, agent.classifier, batch["next_observation"])
    expected = vice.log_odds(agent, agent.classifier, vectors) >= 0.0
    _, info = critic_step(agent, batch)
    assert float(info["reward"]) == pytest.approx(float(jnp.mean(expected)))


def test_own_experience_is_the_last_rows_of_the_batch():
    """The demonstrations before it hold successes, which must not count as failures."""
    agent, batch, key = make_agent(), make_batch(), jax.random.key(3)
    shown, own = (batch["next_observation"]["state"].copy() for _ in range(2))
    shown[:4] += 1.0
    own[4:] += 1.0
    loss, *others = (
        float(classifier_loss(agent, agent.classifier, batch | {"next_observation": {"state": rows}}, key)[0])
        for rows in (batch["next_observation"]["state"], shown, own)
    )
    assert others[0] == loss
    assert others[1] != loss


def test_policy_and_classifier_leave_each_other_alone():
    agent, batch = make_agent().replace(env_steps=jnp.asarray(1, jnp.int32)), make_batch()
    after, _ = critic_step(agent, batch)
    assert changed(agent, after) == {"sac"}
    goals = batch | {"goal": {"state": batch["goal"]["state"] + 1.0}}
    one, other = actor_step(agent, batch)[0], actor_step(agent, goals)[0]
    assert changed(one, other) == {"classifier", "classifier_optimizer"}


def test_the_classifier_learns_in_its_interval():
    agent, batch = make_agent(), make_batch()
    moved = []
    for _ in range(4):
        after, _ = actor_step(agent, batch)
        moved.append("classifier" in changed(agent, after))
        agent = after
    assert moved == [False, True, False, True]


def test_the_classifier_tells_goals_from_experience():
    agent, batch = make_agent(), make_batch()
    batch["goal"]["state"][:, 0] += 6.0
    for _ in range(400):
        agent, info = actor_step(agent, batch)
    assert float(info["classifier_accuracy"]) > 0.95


def test_the_gradient_penalty_keeps_the_classifier_flat():
    """Goals and experience lie close to each other: telling them apart takes a steep function."""
    batch = make_batch()
    for observation in (batch["goal"], batch["next_observation"]):
        observation["state"] *= 0.02
    batch["goal"]["state"][:, 0] += 0.2
    slopes = []
    for weight in (0.0, CONFIG.gradient_penalty):
        agent = make_agent(gradient_penalty=weight)
        for _ in range(400):
            agent, info = actor_step(agent, batch)
        slopes.append(float(info["gradient_penalty"]))
    assert slopes[1] < 0.1 * slopes[0]


def test_the_second_call_compiles_nothing_and_a_state_comes_back():
    batch = make_batch(shape=(2, 2))
    agent, _ = make_agent().update(batch)
    compiled = vice._update.compiled
    arrays = agent.arrays()
    first, info = agent.update(batch)
    again, _ = make_agent(seed=1).with_arrays(arrays).update(batch)
    assert vice._update.compiled == compiled
    assert changed(first, again) == set()
    assert int(first.updates) == 8
    assert {"critic_loss", "actor_loss", "classifier_loss", "reward"} <= set(info)
