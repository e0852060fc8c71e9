# SPDX-License-Identifier: Apache-2.0
"""Soft actor-critic as an immutable PyTree with a pure update."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from flax.traverse_util import flatten_dict
from numpy.typing import NDArray

from serl_rl.config import SACConfig
from serl_rl.networks import LOG_STD_MAX, LOG_STD_MIN, GaussianPolicy, critic_ensemble, squashed_sample
from serl_rl.policy import PolicySnapshot
from serl_rl.spec import DataError, TransitionSpec

Params = Any
Batch = dict[str, Any]
Info = dict[str, jax.Array]


class SACAgent(struct.PyTreeNode):
    """Parameters, optimizer states and random key of soft actor-critic.

    Actor, critics and temperature have optimizers of their own: a critic step touches nothing of the other two.
    """

    key: jax.Array
    actor: Params
    actor_optimizer: optax.OptState
    critic: Params
    critic_optimizer: optax.OptState
    target_critic: Params
    log_temperature: jax.Array
    temperature_optimizer: optax.OptState
    updates: jax.Array
    spec: TransitionSpec = struct.field(pytree_node=False)
    config: SACConfig = struct.field(pytree_node=False)

    @classmethod
    def create(cls, seed: int, spec: TransitionSpec, config: SACConfig) -> SACAgent:
        """New networks for the flat float32 observations of `spec`.

        Raises DataError if the spec has images: they need an encoder, which this agent does not have.
        """
        if spec.frame_names:
            raise DataError("observation", "flat float32 vectors", ", ".join(spec.frame_names))
        return _create(jax.random.key(seed), spec, config)

    def update(self, batch: Batch) -> tuple[SACAgent, Info]:
        """Critic updates on all minibatches, and one actor and temperature update per environment step.

        Args:
            batch: leaves (n_steps, utd_ratio, B, ...), as of `SymmetricSampler.sample`.

        Returns:
            The new agent and scalars averaged over the call. The buffers of the old agent are reused: it is gone.
        """
        return _update(self, batch)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The whole state as named arrays."""
        leaves, _ = jax.tree_util.tree_flatten_with_path(self)
        return {_name(path): np.asarray(jax.device_get(_as_data(leaf))) for path, leaf in leaves}

    def with_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> SACAgent:
        """The agent with the state of `arrays`, as of another agent of the same specification and configuration.

        Raises DataError if names, shapes or dtypes differ.
        """
        leaves, structure = jax.tree_util.tree_flatten_with_path(self)
        names = [_name(path) for path, _ in leaves]
        if set(names) != set(arrays):
            surplus, missing = sorted(set(arrays) - set(names)), sorted(set(names) - set(arrays))
            raise DataError("arrays", f"{len(names)} known names", f"unknown {surplus[:3]}, missing {missing[:3]}")
        restored = [_restored(name, arrays[name], leaf) for name, (_, leaf) in zip(names, leaves, strict=True)]
        return cast(SACAgent, jax.tree_util.tree_unflatten(structure, restored))

    def policy_snapshot(self) -> PolicySnapshot:
        """Copy of what acting needs."""
        arrays = flatten_dict(jax.device_get(self.actor["params"]), sep="/")
        widths = {name: self.spec.observation[name].elements for name in self.spec.vector_names}
        return PolicySnapshot(arrays, widths, self.config.activation, (LOG_STD_MIN, LOG_STD_MAX))


def _name(path: Sequence[Any]) -> str:
    return jax.tree_util.keystr(tuple(path), simple=True, separator="/")


def _is_key(leaf: jax.Array) -> bool:
    return bool(jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key))


def _as_data(leaf: jax.Array) -> jax.Array:
    return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def _restored(name: str, array: NDArray[Any], leaf: jax.Array) -> jax.Array:
    data = _as_data(leaf)
    if array.shape != data.shape or array.dtype != data.dtype:
        raise DataError(name, f"{data.dtype} {data.shape}", f"{array.dtype} {array.shape}")
    # A copy: the update donates its buffers, which must not be memory that numpy or a file owns.
    value = jnp.array(array, copy=True)
    return jax.random.wrap_key_data(value, impl=jax.random.key_impl(leaf)) if _is_key(leaf) else value


def policy(agent: SACAgent, actor: Params, observation: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean and log standard deviation (B, A) of the policy with parameters `actor`."""
    return cast(tuple[jax.Array, jax.Array], _actor_network(agent.spec, agent.config).apply(actor, observation))


def q_values(agent: SACAgent, critic: Params, size: int, observation: jax.Array, action: jax.Array) -> jax.Array:
    """Values (size, B) by an ensemble of `size` critics with stacked parameters `critic`."""
    return cast(jax.Array, _critic_network(agent.config, size).apply(critic, observation, action))


def _actor_network(spec: TransitionSpec, config: SACConfig) -> nn.Module:
    return GaussianPolicy(config.hidden_sizes, config.activation, config.layer_norm, spec.action_dim)


def _critic_network(config: SACConfig, size: int) -> nn.Module:
    return critic_ensemble(size, config.hidden_sizes, config.activation, config.layer_norm)


def _optimizers(config: SACConfig) -> tuple[optax.GradientTransformation, ...]:
    return tuple(optax.adam(rate) for rate in (config.actor_lr, config.critic_lr, config.temperature_lr))


@partial(jax.jit, static_argnums=(1, 2))
def _create(key: jax.Array, spec: TransitionSpec, config: SACConfig) -> SACAgent:
    key, actor_key, critic_key = jax.random.split(key, 3)
    width = sum(spec.observation[name].elements for name in spec.vector_names)
    observation, action = jnp.zeros((1, width), jnp.float32), jnp.zeros((1, spec.action_dim), jnp.float32)
    actor = _actor_network(spec, config).init(actor_key, observation)
    critic = _critic_network(config, config.critics).init(critic_key, observation, action)
    log_temperature = jnp.log(jnp.asarray(config.initial_temperature, jnp.float32))
    actor_optimizer, critic_optimizer, temperature_optimizer = _optimizers(config)
    return SACAgent(
        key=key,
        actor=actor,
        actor_optimizer=actor_optimizer.init(actor),
        critic=critic,
        critic_optimizer=critic_optimizer.init(critic),
        target_critic=jax.tree.map(jnp.copy, critic),
        log_temperature=log_temperature,
        temperature_optimizer=temperature_optimizer.init(log_temperature),
        updates=jnp.asarray(0, jnp.int32),
        spec=spec,
        config=config,
    )


def flat_observation(spec: TransitionSpec, observation: dict[str, jax.Array]) -> jax.Array:
    """The vector entries of observations (..., K_i), concatenated to (..., K)."""
    return jnp.concatenate([observation[name] for name in spec.vector_names], axis=-1)


def critic_loss(agent: SACAgent, critic: Params, batch: Batch, key: jax.Array) -> tuple[jax.Array, Info]:
    """Mean squared error of all critics against the soft Bellman target; leaves of the batch are (B, ...)."""
    config = agent.config
    noise_key, subset_key = jax.random.split(key)
    next_observation = flat_observation(agent.spec, batch["next_observation"])
    mean, log_std = policy(agent, agent.actor, next_observation)
    next_action, next_log_prob = squashed_sample(mean, log_std, jax.random.normal(noise_key, mean.shape))
    target_critic, size = agent.target_critic, config.critics
    if config.critic_subset:
        size = config.critic_subset
        chosen = jax.random.permutation(subset_key, config.critics)[:size]
        target_critic = jax.tree.map(lambda leaf: leaf[chosen], target_critic)
    next_q = q_values(agent, target_critic, size, next_observation, next_action).min(axis=0)
    if config.backup_entropy:
        next_q -= jnp.exp(agent.log_temperature) * next_log_prob
    target = jax.lax.stop_gradient(batch["reward"] + config.discount * batch["mask"] * next_q)
    observation = flat_observation(agent.spec, batch["observation"])
    q = q_values(agent, critic, config.critics, observation, batch["action"])
    loss = jnp.mean(jnp.square(q - target))
    return loss, {"critic_loss": loss, "q": jnp.mean(q)}


def actor_loss(agent: SACAgent, actor: Params, batch: Batch, key: jax.Array) -> tuple[jax.Array, Info]:
    """Entropy-regularized negative value of the policy's actions; leaves of the batch are (B, ...)."""
    observation = flat_observation(agent.spec, batch["observation"])
    mean, log_std = policy(agent, actor, observation)
    action, log_prob = squashed_sample(mean, log_std, jax.random.normal(key, mean.shape))
    q = q_values(agent, agent.critic, agent.config.critics, observation, action).mean(axis=0)
    loss = jnp.mean(jnp.exp(agent.log_temperature) * log_prob - q)
    return loss, {"actor_loss": loss, "entropy": -jnp.mean(log_prob)}


def temperature_loss(agent: SACAgent, log_temperature: jax.Array, entropy: jax.Array) -> jax.Array:
    """Raises the temperature while the entropy of the policy is below its target, and lowers it above."""
    target = agent.config.target_entropy
    if target is None:
        target = -0.5 * agent.spec.action_dim
    return jnp.exp(log_temperature) * jax.lax.stop_gradient(entropy - target)


def critic_step(agent: SACAgent, batch: Batch) -> tuple[SACAgent, Info]:
    """One update of critics and target critics on one minibatch. Touches neither actor nor temperature."""
    key, step_key = jax.random.split(agent.key)
    gradients, info = jax.grad(critic_loss, argnums=1, has_aux=True)(agent, agent.critic, batch, step_key)
    steps, optimizer = _optimizers(agent.config)[1].update(gradients, agent.critic_optimizer)
    critic = optax.apply_updates(agent.critic, steps)
    target = optax.incremental_update(critic, agent.target_critic, agent.config.target_rate)
    agent = agent.replace(
        key=key, critic=critic, critic_optimizer=optimizer, target_critic=target, updates=agent.updates + 1
    )
    return agent, info


def actor_step(agent: SACAgent, batch: Batch) -> tuple[SACAgent, Info]:
    """One update of actor and temperature on one minibatch. Touches no critic."""
    actor_optimizer, _, temperature_optimizer = _optimizers(agent.config)
    key, step_key = jax.random.split(agent.key)
    gradients, info = jax.grad(actor_loss, argnums=1, has_aux=True)(agent, agent.actor, batch, step_key)
    steps, optimizer = actor_optimizer.update(gradients, agent.actor_optimizer)
    slope = jax.grad(temperature_loss, argnums=1)(agent, agent.log_temperature, info["entropy"])
    temperature_step, temperature_state = temperature_optimizer.update(slope, agent.temperature_optimizer)
    agent = agent.replace(
        key=key,
        actor=optax.apply_updates(agent.actor, steps),
        actor_optimizer=optimizer,
        log_temperature=optax.apply_updates(agent.log_temperature, temperature_step),
        temperature_optimizer=temperature_state,
    )
    return agent, info | {"temperature": jnp.exp(agent.log_temperature)}


@partial(jax.jit, donate_argnums=0)
def _update(agent: SACAgent, batch: Batch) -> tuple[SACAgent, Info]:
    def environment_step(agent: SACAgent, minibatches: Batch) -> tuple[SACAgent, Info]:
        agent, critic_info = jax.lax.scan(critic_step, agent, minibatches)
        agent, actor_info = actor_step(agent, jax.tree.map(lambda leaf: leaf[-1], minibatches))
        return agent, jax.tree.map(jnp.mean, critic_info) | actor_info

    agent, info = jax.lax.scan(environment_step, agent, batch)
    return agent, jax.tree.map(jnp.mean, info)
