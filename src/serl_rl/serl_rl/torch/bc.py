# SPDX-License-Identifier: Apache-2.0
"""Behaviour cloning: the policy predicts the next actions of whoever demonstrated. See `serl_rl.jax.bc`."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from serl_rl.config import BCConfig, TorchConfig, VisionConfig
from serl_rl.encoders.encoder import Encoder
from serl_rl.policy.acting import ActionChunk
from serl_rl.policy.snapshot import PolicySnapshot
from serl_rl.spec import TransitionSpec
from serl_rl.torch.agent_state import NamedState
from serl_rl.torch.computing import random
from serl_rl.torch.computing.device import device_of
from serl_rl.torch.computing.optimizer import adam, gradients, init_adam
from serl_rl.torch.computing.tree import static
from serl_rl.torch.networks import MLP, Params
from serl_rl.torch.snapshots import make_snapshot
from serl_rl.torch.update import Batch, Info, Update, trained_encoder
from serl_rl.torch.vision import encode_observation, init_vision
from serl_rl.vision_inputs import encoded_width


@dataclass(frozen=True)
class BCAgent(NamedState):
    """Parameters, optimizer state and random key of behaviour cloning.

    `actor` holds "params" of the policy and "vision", which is trained with it. `updates` is a scalar, (), `key` is
    (2,).
    """

    key: torch.Tensor
    actor: Params
    actor_optimizer: Params
    updates: torch.Tensor
    spec: TransitionSpec = static()
    config: BCConfig = static()
    vision: VisionConfig = static()
    computing: TorchConfig = static()

    @classmethod
    def create(
        cls,
        seed: int,
        spec: TransitionSpec,
        config: BCConfig,
        vision: VisionConfig,
        encoder: Encoder | None = None,
        computing: TorchConfig | None = None,
    ) -> BCAgent:
        """New networks for the observations of `spec`; arguments and errors as of `create_agent`."""
        computing = computing or TorchConfig()
        trained = trained_encoder(spec, vision, encoder, computing)
        key, actor_key, vision_key = random.split(random.from_seed(seed, device_of(computing)), 3)
        params = _network(spec, config).init(actor_key, encoded_width(spec, vision))
        actor = {"params": params, "vision": init_vision(vision_key, spec, vision, trained)}
        updates = torch.zeros((), dtype=torch.int32, device=key.device)
        return cls(key, actor, init_adam(actor), updates, spec, config, vision, computing)

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


def actor_loss(agent: BCAgent, actor: Params, batch: Batch, key: torch.Tensor) -> tuple[torch.Tensor, Info]:
    """Mean squared error of the predicted actions; leaves of the batch are (B, ...)."""
    observation = encode_observation(agent.spec, agent.vision, actor["vision"], batch["observation"])
    outputs = _network(agent.spec, agent.config)(actor["params"], observation, (agent.config.dropout, key))
    errors = (torch.tanh(outputs).reshape(batch["action"].shape) - batch["action"]).square().mean(dim=-1)
    loss = (batch["valid"] * errors).sum() / batch["valid"].sum().clamp(min=1.0)
    return loss, {"actor_loss": loss}


def actor_step(agent: BCAgent, batch: Batch) -> tuple[BCAgent, Info]:
    """One update on one minibatch."""
    key, step_key = random.split(agent.key)
    slopes, info = gradients(lambda actor: actor_loss(agent, actor, batch, step_key), agent.actor)
    actor, optimizer = adam(agent.actor, slopes, agent.actor_optimizer, agent.config.learning_rate)
    return agent.replace(key=key, actor=actor, actor_optimizer=optimizer, updates=agent.updates + 1), info


_update = Update(actor_step, entries=("observation", "action", "valid"))


def _network(spec: TransitionSpec, config: BCConfig) -> MLP:
    return MLP(config.hidden_sizes, config.activation, config.layer_norm, config.chunk * spec.action_dim)
