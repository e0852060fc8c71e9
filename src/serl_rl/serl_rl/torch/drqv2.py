# SPDX-License-Identifier: Apache-2.0
"""DrQ-v2 (Yarats et al., arXiv 2107.09645): a deterministic policy with noise on a schedule, and n-step targets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch

from serl_rl.config import ActingConfig, DrQv2Config, TorchConfig, VisionConfig
from serl_rl.encoders.encoder import Encoder
from serl_rl.policy.acting import NoisyMean
from serl_rl.policy.snapshot import PolicySnapshot
from serl_rl.spec import TransitionSpec
from serl_rl.torch.action_chunks import valued_action
from serl_rl.torch.agent_state import NamedState
from serl_rl.torch.computing import random
from serl_rl.torch.computing.device import device_of
from serl_rl.torch.computing.optimizer import adam, follow, gradients, init_adam
from serl_rl.torch.computing.parallel import own_rows
from serl_rl.torch.computing.tree import map_tree, static
from serl_rl.torch.networks import MLP, Params, critic_values
from serl_rl.torch.snapshots import make_snapshot
from serl_rl.torch.update import Batch, Info, Update, trained_encoder
from serl_rl.torch.vision import encode_observation, init_vision
from serl_rl.vision_inputs import encoded_width

CRITICS = 2


@dataclass(frozen=True)
class DrQv2Agent(NamedState):
    """Parameters, optimizer states and random key of DrQ-v2.

    `critic` and `target_critic` hold "params" of the two critics and "vision", which is trained with them. `updates`
    is a scalar, (), `key` is (2,).
    """

    key: torch.Tensor
    actor: Params
    actor_optimizer: Params
    critic: Params
    critic_optimizer: Params
    target_critic: Params
    env_steps: torch.Tensor
    """Environment steps that were trained for, int32 ()."""
    updates: torch.Tensor
    spec: TransitionSpec = static()
    config: DrQv2Config = static()
    vision: VisionConfig = static()
    acting: ActingConfig = static()
    computing: TorchConfig = static()

    @classmethod
    def create(
        cls,
        seed: int,
        spec: TransitionSpec,
        config: DrQv2Config,
        vision: VisionConfig,
        encoder: Encoder | None = None,
        acting: ActingConfig | None = None,
        computing: TorchConfig | None = None,
    ) -> DrQv2Agent:
        """New networks for the observations of `spec`; arguments and errors as of `create_agent`."""
        acting, computing = acting or ActingConfig(), computing or TorchConfig()
        trained = trained_encoder(spec, vision, encoder, computing)
        key, actor_key, critic_key, vision_key = random.split(random.from_seed(seed, device_of(computing)), 4)
        width, actions = encoded_width(spec, vision), acting.chunk * spec.action_dim
        actor = {"params": _actor_network(spec, config, acting).init(actor_key, width)}
        eyes = init_vision(vision_key, spec, vision, trained)
        critic = {"params": _critic_network(config).init(critic_key, width, CRITICS, actions), "vision": eyes}
        return cls(
            key=key,
            actor=actor,
            actor_optimizer=init_adam(actor),
            critic=critic,
            critic_optimizer=init_adam(critic),
            target_critic=map_tree(torch.clone, critic),
            env_steps=torch.zeros((), dtype=torch.int32, device=key.device),
            updates=torch.zeros((), dtype=torch.int32, device=key.device),
            spec=spec,
            config=config,
            vision=vision,
            acting=acting,
            computing=computing,
        )

    @property
    def steps(self) -> Update[DrQv2Agent]:
        """What its update is made of."""
        return _update

    def update(self, batch: Batch) -> tuple[DrQv2Agent, Info]:
        """Critic updates on all minibatches, and one actor update per environment step; as `Agent.update`."""
        return _update(self, batch)

    def policy_snapshot(self) -> PolicySnapshot:
        """Copy of what acting needs, the noise of this moment included."""
        scale = float(noise_scale(self.config, self.env_steps))
        return make_snapshot(
            self.spec,
            self.vision,
            self.critic["vision"],
            self.actor,
            self.config.activation,
            NoisyMean(scale, self.acting.chunk, self.acting.execute),
        )


def noise_scale(config: DrQv2Config, env_steps: torch.Tensor) -> torch.Tensor:
    """Standard deviation of the exploration noise, a scalar, after training for `env_steps` () environment steps."""
    done = (env_steps / config.noise_steps).clamp(0.0, 1.0)
    return config.noise_start + done * (config.noise_end - config.noise_start)


def noisy_action(key: torch.Tensor, mean: torch.Tensor, scale: torch.Tensor, clip: float) -> torch.Tensor:
    """Actions (B, A): mean plus normal noise of standard deviation `scale` cut at +-clip, inside [-1, 1].

    The gradient with respect to the mean passes through the outer cut as if it were not there, or a policy at the
    bounds could not come back.
    """
    noise = (scale * own_rows(partial(random.normal, key), tuple(mean.shape))).clamp(-clip, clip)
    return mean + ((mean + noise).clamp(-1.0, 1.0) - mean).detach()


def policy(agent: DrQv2Agent, actor: Params, observation: torch.Tensor) -> torch.Tensor:
    """Actions (B, H * A) of encoded observations, without noise."""
    return torch.tanh(_actor_network(agent.spec, agent.config, agent.acting)(actor["params"], observation))


def q_values(agent: DrQv2Agent, critic: Params, observation: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
    """Values (2, B) of encoded observations."""
    return critic_values(_critic_network(agent.config), critic["params"], observation, action)


def encoded(agent: DrQv2Agent, critic: Params, observation: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Vectors (B, D) that the vision of `critic` makes of observations."""
    return encode_observation(agent.spec, agent.vision, critic["vision"], observation)


def critic_loss(agent: DrQv2Agent, critic: Params, batch: Batch, key: torch.Tensor) -> tuple[torch.Tensor, Info]:
    """Mean squared error of both critics against the n-step target; leaves of the batch are (B, ...).

    `reward` is the discounted sum of the steps in between, `discount` their gamma to the power of their number.
    """
    with torch.no_grad():
        scale = noise_scale(agent.config, agent.env_steps)
        mean = policy(agent, agent.actor, encoded(agent, agent.critic, batch["next_observation"]))
        next_action = noisy_action(key, mean, scale, agent.config.noise_clip)
        next_observation = encoded(agent, agent.target_critic, batch["next_observation"])
        next_q = q_values(agent, agent.target_critic, next_observation, next_action).amin(dim=0)
        target = batch["reward"] + batch["discount"] * batch["mask"] * next_q
    q = q_values(agent, critic, encoded(agent, critic, batch["observation"]), valued_action(batch, next_action))
    loss = (q - target).square().mean()
    return loss, {"critic_loss": loss, "q": q.mean()}


def actor_loss(agent: DrQv2Agent, actor: Params, batch: Batch, key: torch.Tensor) -> tuple[torch.Tensor, Info]:
    """Negative value of the policy's noisy actions by the more careful critic; leaves of the batch are (B, ...)."""
    with torch.no_grad():
        observation = encoded(agent, agent.critic, batch["observation"])
        scale = noise_scale(agent.config, agent.env_steps)
    action = noisy_action(key, policy(agent, actor, observation), scale, agent.config.noise_clip)
    loss = -q_values(agent, agent.critic, observation, action).amin(dim=0).mean()
    return loss, {"actor_loss": loss, "noise": scale}


def critic_step(agent: DrQv2Agent, batch: Batch) -> tuple[DrQv2Agent, Info]:
    """One update of critics and target critics on one minibatch. Does not touch the actor."""
    key, step_key = random.split(agent.key)
    slopes, info = gradients(lambda critic: critic_loss(agent, critic, batch, step_key), agent.critic)
    critic, optimizer = adam(agent.critic, slopes, agent.critic_optimizer, agent.config.critic_lr)
    target = follow(agent.target_critic, critic, agent.config.target_rate)
    agent = agent.replace(
        key=key, critic=critic, critic_optimizer=optimizer, target_critic=target, updates=agent.updates + 1
    )
    return agent, info


def actor_step(agent: DrQv2Agent, batch: Batch) -> tuple[DrQv2Agent, Info]:
    """One update of the actor on one minibatch. Touches no critic."""
    key, step_key = random.split(agent.key)
    slopes, info = gradients(lambda actor: actor_loss(agent, actor, batch, step_key), agent.actor)
    actor, optimizer = adam(agent.actor, slopes, agent.actor_optimizer, agent.config.actor_lr)
    return agent.replace(key=key, actor=actor, actor_optimizer=optimizer, env_steps=agent.env_steps + 1), info


_update = Update(critic_step, actor_step)


def _actor_network(spec: TransitionSpec, config: DrQv2Config, acting: ActingConfig) -> MLP:
    outputs = acting.chunk * spec.action_dim
    return MLP(config.hidden_sizes, config.activation, config.layer_norm, outputs, config.bottleneck)


def _critic_network(config: DrQv2Config) -> MLP:
    return MLP(config.hidden_sizes, config.activation, config.layer_norm, 1, config.bottleneck)
