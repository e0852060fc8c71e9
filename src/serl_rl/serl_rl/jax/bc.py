# SPDX-License-Identifier: Apache-2.0
"""Behaviour cloning: the policy predicts the next actions of whoever demonstrated.

It predicts several consecutive actions at once (Zhao et al., ACT, arXiv 2304.13705) and executes the first of them
before it looks again. The loss is the squared error of the squashed actions, which is the likelihood of a Gaussian of
fixed width: demonstrations are full of actions at the bounds, where the density of a squashed Gaussian has no maximum.
"""

from __future__ import annotations

from functools import partial
from typing import cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct

from serl_rl.config import BCConfig, VisionConfig
from serl_rl.encoders.encoder import Encoder
from serl_rl.jax.agent_state import NamedState
from serl_rl.jax.networks import MLP
from serl_rl.jax.snapshots import make_snapshot
from serl_rl.jax.update import Batch, Info, Params, Update, trained_encoder
from serl_rl.jax.vision import encode_observation, init_vision
from serl_rl.policy.acting import ActionChunk
from serl_rl.policy.snapshot import PolicySnapshot
from serl_rl.spec import TransitionSpec
from serl_rl.vision_inputs import encoded_width


class ChunkPolicy(nn.Module):
    """Consecutive actions (B, H, A) in [-1, 1] for a vector (B, D). Drops out when it is given the key "dropout"."""

    config: BCConfig
    action_dim: int

    @nn.compact
    def __call__(self, observation: jax.Array) -> jax.Array:
        """Actions (B, H, A) of vectors (B, D)."""
        config = self.config
        x = MLP(config.hidden_sizes, config.activation, config.layer_norm, config.dropout, name="trunk")(observation)
        x = nn.Dense(config.chunk * self.action_dim, name="head")(x)
        return nn.tanh(x).reshape(-1, config.chunk, self.action_dim)


class BCAgent(NamedState, struct.PyTreeNode):
    """Parameters, optimizer state and random key of behaviour cloning.

    `actor` holds "params" of the `ChunkPolicy` and "vision", which is trained with it. `key` and
    `updates` are scalars, ().
    """

    key: jax.Array
    actor: Params
    actor_optimizer: optax.OptState
    updates: jax.Array
    spec: TransitionSpec = struct.field(pytree_node=False)
    config: BCConfig = struct.field(pytree_node=False)
    vision: VisionConfig = struct.field(pytree_node=False)

    @classmethod
    def create(
        cls, seed: int, spec: TransitionSpec, config: BCConfig, vision: VisionConfig, encoder: Encoder | None = None
    ) -> BCAgent:
        """New networks for the observations of `spec`; arguments and errors as of `create_agent`."""
        trained = trained_encoder(spec, vision, encoder)
        return _create(jax.random.key(seed), spec, config, vision, trained)

    @property
    def steps(self) -> Update[BCAgent]:
        """What its update is made of."""
        return _update

    def update(self, batch: Batch) -> tuple[BCAgent, Info]:
        """One update for each minibatch; as `Agent.update`.

        Args:
            batch: `action` has the `chunk` actions (B, H, A) from each transition on, `valid` (B, H) is 0 for those
                behind the end of the episode.
        """
        return _update(self, batch)

    def policy_snapshot(self) -> PolicySnapshot:
        """Copy of what acting needs."""
        return make_snapshot(
            self.spec,
            self.vision,
            self.actor["vision"],
            self.actor,
            self.config.activation,
            ActionChunk(self.config.chunk, self.config.execute),
        )


def actor_loss(agent: BCAgent, actor: Params, batch: Batch, key: jax.Array) -> tuple[jax.Array, Info]:
    """Mean squared error of the predicted actions; leaves of the batch are (B, ...)."""
    observation = encode_observation(agent.spec, agent.vision, actor["vision"], batch["observation"])
    network = ChunkPolicy(agent.config, agent.spec.action_dim)
    predicted = cast(jax.Array, network.apply({"params": actor["params"]}, observation, rngs={"dropout": key}))
    errors = jnp.mean(jnp.square(predicted - batch["action"]), axis=-1)
    loss = jnp.sum(batch["valid"] * errors) / jnp.maximum(jnp.sum(batch["valid"]), 1.0)
    return loss, {"actor_loss": loss}


def actor_step(agent: BCAgent, batch: Batch) -> tuple[BCAgent, Info]:
    """One update on one minibatch."""
    key, step_key = jax.random.split(agent.key)
    gradients, info = jax.grad(actor_loss, argnums=1, has_aux=True)(agent, agent.actor, batch, step_key)
    steps, optimizer = optax.adam(agent.config.learning_rate).update(gradients, agent.actor_optimizer)
    actor = optax.apply_updates(agent.actor, steps)
    return agent.replace(key=key, actor=actor, actor_optimizer=optimizer, updates=agent.updates + 1), info


_update = Update(actor_step, entries=("observation", "action", "valid"))


@partial(jax.jit, static_argnums=(1, 2, 3))
def _create(
    key: jax.Array, spec: TransitionSpec, config: BCConfig, vision: VisionConfig, trained_encoder: Params
) -> BCAgent:
    key, actor_key, vision_key = jax.random.split(key, 3)
    observation = jnp.zeros((1, encoded_width(spec, vision)), jnp.float32)
    eyes = {"vision": init_vision(vision_key, spec, vision, trained_encoder)}
    actor = {**ChunkPolicy(config, spec.action_dim).init(actor_key, observation), **eyes}
    return BCAgent(
        key=key,
        actor=actor,
        actor_optimizer=optax.adam(config.learning_rate).init(actor),
        updates=jnp.asarray(0, jnp.int32),
        spec=spec,
        config=config,
        vision=vision,
    )
