# SPDX-License-Identifier: Apache-2.0
"""Soft actor-critic as an immutable PyTree with a pure update, for vectors, cached features and pictures.

What acts is an average over the last updates: single ones can leave an actor that misses what its neighbours hit.

What observations with frames go through ("vision": heads and, where it is trained, the encoder) belongs to the critics:
their loss trains it, their target has a copy of its own, and the actor takes what it gives as it is.

An imported policy, whose action is a part of each observation, is improved in one of two ways: the critics choose
between its action and the learner's, or the learner's is a bounded correction of it.

With chunks of H actions the policy is a Gaussian of their H * A components, which the critics value together.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct

from serl_rl.base_action import BASE_ACTION
from serl_rl.config import ActingConfig, SACConfig, VisionConfig
from serl_rl.encoders.encoder import Encoder
from serl_rl.jax.action_chunks import valued_action
from serl_rl.jax.agent_state import NamedState
from serl_rl.jax.networks import LOG_STD_MAX, LOG_STD_MIN, GaussianPolicy, critic_ensemble, squashed_sample
from serl_rl.jax.snapshots import make_snapshot, with_critics, with_exploring
from serl_rl.jax.update import Batch, Info, Params, Update, trained_encoder
from serl_rl.jax.vision import encode_observation, init_vision
from serl_rl.policy.acting import Actor, Proposals, Residual, SquashedGaussian
from serl_rl.policy.snapshot import PolicySnapshot
from serl_rl.spec import DataError, TransitionSpec
from serl_rl.vision_inputs import encoded_width, has_pictures


class SACAgent(NamedState, struct.PyTreeNode):
    """Parameters, optimizer states and random key of soft actor-critic.

    Actor, critics and temperature have optimizers of their own: a critic step touches nothing of the other two.
    `critic` and `target_critic` hold "params" of the ensemble and "vision", which is empty without frames;
    `acting_average` holds "actor" and "vision". `key`, `log_temperature` and `updates` are scalars, ().
    """

    key: jax.Array
    actor: Params
    actor_optimizer: optax.OptState
    critic: Params
    critic_optimizer: optax.OptState
    target_critic: Params
    acting_average: Params
    log_temperature: jax.Array
    temperature_optimizer: optax.OptState
    updates: jax.Array
    spec: TransitionSpec = struct.field(pytree_node=False)
    config: SACConfig = struct.field(pytree_node=False)
    vision: VisionConfig = struct.field(pytree_node=False)
    acting: ActingConfig = struct.field(pytree_node=False, default=ActingConfig())

    @classmethod
    def create(
        cls,
        seed: int,
        spec: TransitionSpec,
        config: SACConfig,
        vision: VisionConfig | None = None,
        encoder: Encoder | None = None,
        acting: ActingConfig | None = None,
    ) -> SACAgent:
        """New networks for the observations of `spec`.

        Args:
            seed: of the parameters and of all that is drawn in updates.
            spec: of the transitions.
            config: of the algorithm.
            vision: for observations with frames.
            encoder: first weights of the one that is trained, where the frames are pictures.
            acting: says how many actions are chosen at once; None: one.

        Raises:
            DataError: the observations do not fit `vision`, or the encoder is missing, frozen or of another kind.
        """
        if config.improve != "none" and BASE_ACTION not in spec.observation:
            raise DataError("observation", f"{BASE_ACTION}, which sac.improve: {config.improve} needs", "none")
        vision = vision or VisionConfig()
        trained = trained_encoder(spec, vision, encoder)
        return _create(jax.random.key(seed), spec, config, vision, acting or ActingConfig(), trained)

    @property
    def steps(self) -> Update[SACAgent]:
        """What its update is made of."""
        return _update

    def update(self, batch: Batch) -> tuple[SACAgent, Info]:
        """Critic updates on all minibatches, and one actor and temperature update per environment step.

        Args:
            batch: leaves (n_steps, utd_ratio, B, ...), as of `SymmetricSampler.sample`.

        Returns:
            The new agent and scalars averaged over the call. The buffers of the old agent are reused: it is gone.
        """
        return _update(self, batch)

    def policy_snapshot(self) -> PolicySnapshot:
        """Copy of what acting needs."""
        bounds = (LOG_STD_MIN, LOG_STD_MAX)
        match self.config.improve:
            case "none":
                return acting_snapshot(self, SquashedGaussian(bounds, self.acting.chunk, self.acting.execute))
            case "residual":
                return acting_snapshot(self, Residual(bounds, self.config.residual_scale))
            case "proposals":
                snapshot = acting_snapshot(self, Proposals(bounds, self.config.critics))
                return with_critics(snapshot, self.target_critic["params"], self.target_critic["vision"])


def acting_snapshot(agent: SACAgent, actor: Actor, **further: Params) -> PolicySnapshot:
    """Copy of what acts: the average for the best actions, what the last update left for those that explore.

    With an encoder that is trained the average explores too: a second encoder would double what is sent.

    Args:
        agent: whose parameters act.
        actor: what the outputs mean.
        further: parameters of other networks that the actor needs, by name.
    """
    average = agent.acting_average
    snapshot = make_snapshot(
        agent.spec, agent.vision, average["vision"], average["actor"], agent.config.activation, actor, **further
    )
    if agent.config.acting_rate == 1.0 or has_pictures(agent.spec):
        return snapshot
    return with_exploring(snapshot, agent.critic["vision"], agent.actor)


def policy(agent: SACAgent, actor: Params, observation: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean and log standard deviation (B, H * A) of the policy with parameters `actor`."""
    network = _actor_network(agent.spec, agent.config, agent.acting)
    return cast(tuple[jax.Array, jax.Array], network.apply(actor, observation))


def q_values(agent: SACAgent, critic: Params, size: int, observation: jax.Array, action: jax.Array) -> jax.Array:
    """Values (size, B) by an ensemble of `size` critics with stacked parameters `critic`, of encoded observations."""
    ensemble = {"params": critic["params"]}
    return cast(jax.Array, _critic_network(agent.config, size).apply(ensemble, observation, action))


def encoded(agent: SACAgent, critic: Params, observation: Mapping[str, jax.Array]) -> jax.Array:
    """Vectors (B, D) that the vision of `critic` makes of prepared observations."""
    return encode_observation(agent.spec, agent.vision, critic["vision"], observation)


def executed(config: SACConfig, observation: Mapping[str, jax.Array], sample: jax.Array) -> jax.Array:
    """Actions (B, A) that a sample (B, A) of the policy stands for: itself, or the base action that it corrects."""
    if config.improve != "residual":
        return sample
    return jnp.clip(observation[BASE_ACTION] + config.residual_scale * sample, -1.0, 1.0)


def _actor_network(spec: TransitionSpec, config: SACConfig, acting: ActingConfig) -> nn.Module:
    size = acting.chunk * spec.action_dim
    corrects = config.improve == "residual"
    hidden = config.hidden_sizes, config.activation, config.layer_norm
    return GaussianPolicy(*hidden, size, zero_head=corrects, bottleneck=config.bottleneck)


def _critic_network(config: SACConfig, size: int) -> nn.Module:
    return critic_ensemble(size, config.hidden_sizes, config.activation, config.layer_norm, config.bottleneck)


def _optimizers(config: SACConfig) -> tuple[optax.GradientTransformation, ...]:
    return tuple(optax.adam(rate) for rate in (config.actor_lr, config.critic_lr, config.temperature_lr))


@partial(jax.jit, static_argnums=(1, 2, 3, 4))
def _create(
    key: jax.Array,
    spec: TransitionSpec,
    config: SACConfig,
    vision: VisionConfig,
    acting: ActingConfig,
    trained_encoder: Params,
) -> SACAgent:
    key, actor_key, critic_key = jax.random.split(key, 3)
    vision_params = init_vision(jax.random.fold_in(critic_key, 1), spec, vision, trained_encoder)
    observation = jnp.zeros((1, encoded_width(spec, vision)), jnp.float32)
    action = jnp.zeros((1, acting.chunk * spec.action_dim), jnp.float32)
    actor = _actor_network(spec, config, acting).init(actor_key, observation)
    ensemble = _critic_network(config, config.critics).init(critic_key, observation, action)
    critic = {"params": ensemble["params"], "vision": vision_params}
    log_temperature = jnp.log(jnp.asarray(config.initial_temperature, jnp.float32))
    actor_optimizer, critic_optimizer, temperature_optimizer = _optimizers(config)
    return SACAgent(
        key=key,
        actor=actor,
        actor_optimizer=actor_optimizer.init(actor),
        critic=critic,
        critic_optimizer=critic_optimizer.init(critic),
        target_critic=jax.tree.map(jnp.copy, critic),
        acting_average=jax.tree.map(jnp.copy, {"actor": actor, "vision": vision_params}),
        log_temperature=log_temperature,
        temperature_optimizer=temperature_optimizer.init(log_temperature),
        updates=jnp.asarray(0, jnp.int32),
        spec=spec,
        config=config,
        vision=vision,
        acting=acting,
    )


def critic_loss(agent: SACAgent, critic: Params, batch: Batch, key: jax.Array) -> tuple[jax.Array, Info]:
    """Mean squared error of all critics against the soft Bellman target; leaves of the batch are (B, ...)."""
    config = agent.config
    noise_key, subset_key = jax.random.split(key)
    mean, log_std = policy(agent, agent.actor, encoded(agent, agent.critic, batch["next_observation"]))
    sample, next_log_prob = squashed_sample(mean, log_std, jax.random.normal(noise_key, mean.shape))
    next_action = executed(config, batch["next_observation"], sample)
    target_critic, size = agent.target_critic, config.critics
    next_observation = encoded(agent, target_critic, batch["next_observation"])
    if config.critic_subset:
        size = config.critic_subset
        chosen = jax.random.permutation(subset_key, config.critics)[:size]
        target_critic = {"params": jax.tree.map(lambda leaf: leaf[chosen], target_critic["params"])}
    next_q = q_values(agent, target_critic, size, next_observation, next_action).min(axis=0)
    info = {}
    if config.improve == "proposals":
        base = batch["next_observation"][BASE_ACTION]
        base_q = q_values(agent, target_critic, size, next_observation, base).min(axis=0)
        info["base_share"] = jnp.mean((base_q >= next_q).astype(jnp.float32))
        next_q = jnp.maximum(next_q, base_q)
    if config.backup_entropy:
        next_q -= jnp.exp(agent.log_temperature) * next_log_prob
    discount = batch.get("discount", config.discount)
    target = jax.lax.stop_gradient(batch["reward"] + discount * batch["mask"] * next_q)
    observation = encoded(agent, critic, batch["observation"])
    q = q_values(agent, critic, config.critics, observation, valued_action(batch, next_action))
    loss = jnp.mean(jnp.square(q - target))
    return loss, {"critic_loss": loss, "q": jnp.mean(q), **info}


def actor_loss(agent: SACAgent, actor: Params, batch: Batch, key: jax.Array) -> tuple[jax.Array, Info]:
    """Entropy-regularized negative value of the policy's actions; leaves of the batch are (B, ...)."""
    observation = jax.lax.stop_gradient(encoded(agent, agent.critic, batch["observation"]))
    mean, log_std = policy(agent, actor, observation)
    sample, log_prob = squashed_sample(mean, log_std, jax.random.normal(key, mean.shape))
    action = executed(agent.config, batch["observation"], sample)
    q = q_values(agent, agent.critic, agent.config.critics, observation, action).mean(axis=0)
    loss = jnp.mean(jnp.exp(agent.log_temperature) * log_prob - q)
    return loss, {"actor_loss": loss, "entropy": -jnp.mean(log_prob)}


def temperature_loss(agent: SACAgent, log_temperature: jax.Array, entropy: jax.Array) -> jax.Array:
    """Raises the temperature while the entropy of the policy is below its target, and lowers it above.

    The target is that of all actions of a chunk together.

    Args:
        agent: says which entropy is the target.
        log_temperature: its logarithm, ().
        entropy: mean of the policy on a minibatch, () [nat].
    """
    target = agent.config.target_entropy
    if target is None:
        target = -0.5 * agent.spec.action_dim
    return jnp.exp(log_temperature) * jax.lax.stop_gradient(entropy - agent.acting.chunk * target)


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
    """One update of actor, temperature and what acts, on one minibatch. Touches no critic."""
    actor_optimizer, _, temperature_optimizer = _optimizers(agent.config)
    key, step_key = jax.random.split(agent.key)
    gradients, info = jax.grad(actor_loss, argnums=1, has_aux=True)(agent, agent.actor, batch, step_key)
    steps, optimizer = actor_optimizer.update(gradients, agent.actor_optimizer)
    slope = jax.grad(temperature_loss, argnums=1)(agent, agent.log_temperature, info["entropy"])
    actor = optax.apply_updates(agent.actor, steps)
    latest = {"actor": actor, "vision": agent.critic["vision"]}
    temperature_step, temperature_state = temperature_optimizer.update(slope, agent.temperature_optimizer)
    agent = agent.replace(
        key=key,
        actor=actor,
        actor_optimizer=optimizer,
        acting_average=optax.incremental_update(latest, agent.acting_average, agent.config.acting_rate),
        log_temperature=optax.apply_updates(agent.log_temperature, temperature_step),
        temperature_optimizer=temperature_state,
    )
    return agent, info | {"temperature": jnp.exp(agent.log_temperature)}


_update = Update(critic_step, actor_step)
