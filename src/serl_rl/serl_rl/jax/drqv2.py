# SPDX-License-Identifier: Apache-2.0
"""DrQ-v2 (Yarats et al., arXiv 2107.09645): a deterministic policy with noise on a schedule, and n-step targets."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct

from serl_rl.config import ActingConfig, DrQv2Config, VisionConfig
from serl_rl.encoders.encoder import Encoder
from serl_rl.jax.action_chunks import valued_action
from serl_rl.jax.agent_state import NamedState
from serl_rl.jax.networks import MLP, Bottleneck, critic_ensemble
from serl_rl.jax.snapshots import make_snapshot
from serl_rl.jax.update import Batch, Info, Params, Update, trained_encoder
from serl_rl.jax.vision import encode_observation, init_vision
from serl_rl.policy.acting import NoisyMean
from serl_rl.policy.snapshot import PolicySnapshot
from serl_rl.spec import TransitionSpec
from serl_rl.vision_inputs import encoded_width

CRITICS = 2


class DeterministicPolicy(nn.Module):
    """The action (B, A) in [-1, 1] for a vector (B, D)."""

    hidden_sizes: tuple[int, ...]
    activation: str
    layer_norm: bool
    action_dim: int
    bottleneck: int = 0
    """Width of the `Bottleneck` of the observation; 0: none."""

    @nn.compact
    def __call__(self, observation: jax.Array) -> jax.Array:
        """Actions (B, A) of vectors (B, D)."""
        if self.bottleneck:
            observation = Bottleneck(self.bottleneck, name="bottleneck")(observation)
        x = MLP(self.hidden_sizes, self.activation, self.layer_norm, name="trunk")(observation)
        return nn.tanh(nn.Dense(self.action_dim, name="head")(x))


class DrQv2Agent(NamedState, struct.PyTreeNode):
    """Parameters, optimizer states and random key of DrQ-v2.

    `critic` and `target_critic` hold "params" of the two critics and "vision", which is trained with them. `key` and
    `updates` are scalars, ().
    """

    key: jax.Array
    actor: Params
    actor_optimizer: optax.OptState
    critic: Params
    critic_optimizer: optax.OptState
    target_critic: Params
    env_steps: jax.Array
    """Environment steps that were trained for, int32 ()."""
    updates: jax.Array
    spec: TransitionSpec = struct.field(pytree_node=False)
    config: DrQv2Config = struct.field(pytree_node=False)
    vision: VisionConfig = struct.field(pytree_node=False)
    acting: ActingConfig = struct.field(pytree_node=False, default=ActingConfig())

    @classmethod
    def create(
        cls,
        seed: int,
        spec: TransitionSpec,
        config: DrQv2Config,
        vision: VisionConfig,
        encoder: Encoder | None = None,
        acting: ActingConfig | None = None,
    ) -> DrQv2Agent:
        """New networks for the observations of `spec`; arguments and errors as of `create_agent`."""
        trained = trained_encoder(spec, vision, encoder)
        return _create(jax.random.key(seed), spec, config, vision, acting or ActingConfig(), trained)

    @property
    def steps(self) -> Update[DrQv2Agent]:
        """What its update is made of."""
        return _update

    def update(self, batch: Batch) -> tuple[DrQv2Agent, Info]:
        """Critic updates on all minibatches, and one actor update per environment step; as `Agent.update`."""
        return _update(self, batch)

    def policy_snapshot(self) -> PolicySnapshot:
        """Copy of what acting needs, the noise of this moment included."""
        return make_snapshot(
            self.spec,
            self.vision,
            self.critic["vision"],
            self.actor,
            self.config.activation,
            NoisyMean(float(noise_scale(self.config, self.env_steps)), self.acting.chunk, self.acting.execute),
        )


def noise_scale(config: DrQv2Config, env_steps: jax.Array) -> jax.Array:
    """Standard deviation of the exploration noise, a scalar, after training for `env_steps` () environment steps."""
    done = jnp.clip(env_steps / config.noise_steps, 0.0, 1.0)
    return config.noise_start + done * (config.noise_end - config.noise_start)


def noisy_action(key: jax.Array, mean: jax.Array, scale: jax.Array, clip: float) -> jax.Array:
    """Actions (B, A): mean plus normal noise of standard deviation `scale` cut at +-clip, inside [-1, 1].

    The gradient with respect to the mean passes through the outer cut as if it were not there, or a policy at the
    bounds could not come back.
    """
    noise = jnp.clip(scale * jax.random.normal(key, mean.shape), -clip, clip)
    return mean + jax.lax.stop_gradient(jnp.clip(mean + noise, -1.0, 1.0) - mean)


def policy(agent: DrQv2Agent, actor: Params, observation: jax.Array) -> jax.Array:
    """Actions (B, H * A) of encoded observations, without noise."""
    return cast(jax.Array, _actor_network(agent.spec, agent.config, agent.acting).apply(actor, observation))


def q_values(agent: DrQv2Agent, critic: Params, observation: jax.Array, action: jax.Array) -> jax.Array:
    """Values (2, B) of encoded observations."""
    return cast(jax.Array, _critic_network(agent.config).apply({"params": critic["params"]}, observation, action))


def encoded(agent: DrQv2Agent, critic: Params, observation: Mapping[str, jax.Array]) -> jax.Array:
    """Vectors (B, D) that the vision of `critic` makes of observations."""
    return encode_observation(agent.spec, agent.vision, critic["vision"], observation)


def critic_loss(agent: DrQv2Agent, critic: Params, batch: Batch, key: jax.Array) -> tuple[jax.Array, Info]:
    """Mean squared error of both critics against the n-step target; leaves of the batch are (B, ...).

    `reward` is the discounted sum of the steps in between, `discount` their gamma to the power of their number.
    """
    config = agent.config
    scale = noise_scale(config, agent.env_steps)
    mean = policy(agent, agent.actor, encoded(agent, agent.critic, batch["next_observation"]))
    next_action = noisy_action(key, mean, scale, config.noise_clip)
    next_observation = encoded(agent, agent.target_critic, batch["next_observation"])
    next_q = q_values(agent, agent.target_critic, next_observation, next_action).min(axis=0)
    target = jax.lax.stop_gradient(batch["reward"] + batch["discount"] * batch["mask"] * next_q)
    q = q_values(agent, critic, encoded(agent, critic, batch["observation"]), valued_action(batch, next_action))
    loss = jnp.mean(jnp.square(q - target))
    return loss, {"critic_loss": loss, "q": jnp.mean(q)}


def actor_loss(agent: DrQv2Agent, actor: Params, batch: Batch, key: jax.Array) -> tuple[jax.Array, Info]:
    """Negative value of the policy's noisy actions by the more careful critic; leaves of the batch are (B, ...)."""
    config = agent.config
    observation = jax.lax.stop_gradient(encoded(agent, agent.critic, batch["observation"]))
    scale = noise_scale(config, agent.env_steps)
    action = noisy_action(key, policy(agent, actor, observation), scale, config.noise_clip)
    loss = -jnp.mean(q_values(agent, agent.critic, observation, action).min(axis=0))
    return loss, {"actor_loss": loss, "noise": scale}


def critic_step(agent: DrQv2Agent, batch: Batch) -> tuple[DrQv2Agent, Info]:
    """One update of critics and target critics on one minibatch. Does not touch the actor."""
    key, step_key = jax.random.split(agent.key)
    gradients, info = jax.grad(critic_loss, argnums=1, has_aux=True)(agent, agent.critic, batch, step_key)
    steps, optimizer = optax.adam(agent.config.critic_lr).update(gradients, agent.critic_optimizer)
    critic = optax.apply_updates(agent.critic, steps)
    target = optax.incremental_update(critic, agent.target_critic, agent.config.target_rate)
    agent = agent.replace(
        key=key, critic=critic, critic_optimizer=optimizer, target_critic=target, updates=agent.updates + 1
    )
    return agent, info


def actor_step(agent: DrQv2Agent, batch: Batch) -> tuple[DrQv2Agent, Info]:
    """One update of the actor on one minibatch. Touches no critic."""
    key, step_key = jax.random.split(agent.key)
    gradients, info = jax.grad(actor_loss, argnums=1, has_aux=True)(agent, agent.actor, batch, step_key)
    steps, optimizer = optax.adam(agent.config.actor_lr).update(gradients, agent.actor_optimizer)
    actor = optax.apply_updates(agent.actor, steps)
    return agent.replace(key=key, actor=actor, actor_optimizer=optimizer, env_steps=agent.env_steps + 1), info


_update = Update(critic_step, actor_step)


def _actor_network(spec: TransitionSpec, config: DrQv2Config, acting: ActingConfig) -> nn.Module:
    outputs = acting.chunk * spec.action_dim
    return DeterministicPolicy(config.hidden_sizes, config.activation, config.layer_norm, outputs, config.bottleneck)


def _critic_network(config: DrQv2Config) -> nn.Module:
    return critic_ensemble(CRITICS, config.hidden_sizes, config.activation, config.layer_norm, config.bottleneck)


@partial(jax.jit, static_argnums=(1, 2, 3, 4))
def _create(
    key: jax.Array,
    spec: TransitionSpec,
    config: DrQv2Config,
    vision: VisionConfig,
    acting: ActingConfig,
    trained_encoder: Params,
) -> DrQv2Agent:
    key, actor_key, critic_key, vision_key = jax.random.split(key, 4)
    observation = jnp.zeros((1, encoded_width(spec, vision)), jnp.float32)
    action = jnp.zeros((1, acting.chunk * spec.action_dim), jnp.float32)
    actor = _actor_network(spec, config, acting).init(actor_key, observation)
    eyes = {"vision": init_vision(vision_key, spec, vision, trained_encoder)}
    critic = {**_critic_network(config).init(critic_key, observation, action), **eyes}
    return DrQv2Agent(
        key=key,
        actor=actor,
        actor_optimizer=optax.adam(config.actor_lr).init(actor),
        critic=critic,
        critic_optimizer=optax.adam(config.critic_lr).init(critic),
        target_critic=jax.tree.map(jnp.copy, critic),
        env_steps=jnp.asarray(0, jnp.int32),
        updates=jnp.asarray(0, jnp.int32),
        spec=spec,
        config=config,
        vision=vision,
        acting=acting,
    )
