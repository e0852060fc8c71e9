# SPDX-License-Identifier: Apache-2.0
"""Soft actor-critic with pure steps, for vectors, cached features and pictures. See `serl_rl.jax.sac`.

What observations with frames go through ("vision": heads and, where it is trained, the encoder) belongs to the critics:
their loss trains it, their target has a copy of its own, and the actor takes what it gives as it is.

With chunks of H actions the policy is a Gaussian of their H * A components, which the critics value together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from serl_rl.base_action import BASE_ACTION
from serl_rl.config import ActingConfig, SACConfig, TorchConfig, VisionConfig
from serl_rl.encoders.encoder import Encoder
from serl_rl.policy.acting import Actor, Proposals, Residual, SquashedGaussian
from serl_rl.policy.snapshot import PolicySnapshot
from serl_rl.spec import DataError, TransitionSpec
from serl_rl.torch.action_chunks import valued_action
from serl_rl.torch.agent_state import NamedState
from serl_rl.torch.computing import random
from serl_rl.torch.computing.device import device_of
from serl_rl.torch.computing.optimizer import adam, follow, gradients, init_adam
from serl_rl.torch.computing.parallel import own_rows
from serl_rl.torch.computing.tree import map_tree, static
from serl_rl.torch.networks import LOG_STD_MAX, LOG_STD_MIN, MLP, Params, critic_values, gaussian, squashed_sample
from serl_rl.torch.snapshots import make_snapshot, with_critics, with_exploring
from serl_rl.torch.update import Batch, Info, Update, trained_encoder
from serl_rl.torch.vision import encode_observation, init_vision
from serl_rl.vision_inputs import encoded_width, has_pictures


@dataclass(frozen=True)
class SACAgent(NamedState):
    """Parameters, optimizer states and random key of soft actor-critic.

    Actor, critics and temperature have optimizers of their own: a critic step touches nothing of the other two.
    `critic` and `target_critic` hold "params" of the ensemble and "vision", which is empty without frames;
    `acting_average` holds "actor" and "vision". `log_temperature` and `updates` are scalars, (), `key` is (2,).
    """

    key: torch.Tensor
    actor: Params
    actor_optimizer: Params
    critic: Params
    critic_optimizer: Params
    target_critic: Params
    acting_average: Params
    log_temperature: torch.Tensor
    temperature_optimizer: Params
    updates: torch.Tensor
    spec: TransitionSpec = static()
    config: SACConfig = static()
    vision: VisionConfig = static()
    acting: ActingConfig = static()
    computing: TorchConfig = static()

    @classmethod
    def create(
        cls,
        seed: int,
        spec: TransitionSpec,
        config: SACConfig,
        vision: VisionConfig | None = None,
        encoder: Encoder | None = None,
        acting: ActingConfig | None = None,
        computing: TorchConfig | None = None,
    ) -> SACAgent:
        """New networks for the observations of `spec`.

        Args:
            seed: of the parameters and of all that is drawn in updates.
            spec: of the transitions.
            config: of the algorithm.
            vision: for observations with frames.
            encoder: first weights of the one that is trained, where the frames are pictures.
            acting: says how many actions are chosen at once; None: one.
            computing: how it is computed.

        Raises:
            DataError: the observations do not fit `vision`, or the encoder is missing, frozen or of another kind.
        """
        if config.improve != "none" and BASE_ACTION not in spec.observation:
            raise DataError("observation", f"{BASE_ACTION}, which sac.improve: {config.improve} needs", "none")
        vision, acting, computing = vision or VisionConfig(), acting or ActingConfig(), computing or TorchConfig()
        trained = trained_encoder(spec, vision, encoder, computing)
        key, actor_key, critic_key = random.split(random.from_seed(seed, device_of(computing)), 3)
        eyes = init_vision(random.fold_in(critic_key, 1), spec, vision, trained)
        width, actions = encoded_width(spec, vision), acting.chunk * spec.action_dim
        actor = {"params": _actor_network(spec, config, acting).init(actor_key, width)}
        if config.improve == "residual":  # the first correction is 0 whatever is observed
            actor["params"]["head"]["kernel"] = torch.zeros_like(actor["params"]["head"]["kernel"])
        ensemble = _critic_network(config).init(critic_key, width, config.critics, actions)
        critic = {"params": ensemble, "vision": eyes}
        log_temperature = torch.tensor(math.log(config.initial_temperature), device=key.device)
        return cls(
            key=key,
            actor=actor,
            actor_optimizer=init_adam(actor),
            critic=critic,
            critic_optimizer=init_adam(critic),
            target_critic=map_tree(torch.clone, critic),
            acting_average=map_tree(torch.clone, {"actor": actor, "vision": eyes}),
            log_temperature=log_temperature,
            temperature_optimizer=init_adam(log_temperature),
            updates=torch.zeros((), dtype=torch.int32, device=key.device),
            spec=spec,
            config=config,
            vision=vision,
            acting=acting,
            computing=computing,
        )

    @property
    def steps(self) -> Update[SACAgent]:
        """What its update is made of."""
        return _update

    def update(self, batch: Batch) -> tuple[SACAgent, Info]:
        """Critic updates on all minibatches, and one actor and temperature update per environment step.

        Args:
            batch: leaves (n_steps, utd_ratio, B, ...), as of `SymmetricSampler.sample`.

        Returns:
            The new agent and scalars averaged over the call. The tensors of the old agent are reused: it is gone.
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


def policy(agent: SACAgent, actor: Params, observation: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and log standard deviation (B, H * A) of the policy with parameters `actor`."""
    return gaussian(_actor_network(agent.spec, agent.config, agent.acting)(actor["params"], observation))


def q_values(agent: SACAgent, critic: Params, observation: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
    """Values (E, B) by an ensemble of E critics with stacked parameters `critic`, of encoded observations."""
    return critic_values(_critic_network(agent.config), critic["params"], observation, action)


def encoded(agent: SACAgent, critic: Params, observation: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Vectors (B, D) that the vision of `critic` makes of prepared observations."""
    return encode_observation(agent.spec, agent.vision, critic["vision"], observation)


def executed(config: SACConfig, observation: Mapping[str, torch.Tensor], sample: torch.Tensor) -> torch.Tensor:
    """Actions (B, A) that a sample (B, A) of the policy stands for: itself, or the base action that it corrects."""
    if config.improve != "residual":
        return sample
    return torch.clamp(observation[BASE_ACTION] + config.residual_scale * sample, -1.0, 1.0)


def _actor_network(spec: TransitionSpec, config: SACConfig, acting: ActingConfig) -> MLP:
    outputs = 2 * acting.chunk * spec.action_dim
    return MLP(config.hidden_sizes, config.activation, config.layer_norm, outputs, config.bottleneck)


def _critic_network(config: SACConfig) -> MLP:
    return MLP(config.hidden_sizes, config.activation, config.layer_norm, 1, config.bottleneck)


def bellman_target(agent: SACAgent, batch: Batch, key: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, Info]:
    """Soft Bellman target (B,), what the policy does at the next observation, (B, H * A), and what is told of it."""
    config = agent.config
    noise_key, subset_key = random.split(key)
    mean, log_std = policy(agent, agent.actor, encoded(agent, agent.critic, batch["next_observation"]))
    noise = own_rows(partial(random.normal, noise_key), tuple(mean.shape))
    sample, next_log_prob = squashed_sample(mean, log_std, noise)
    next_action = executed(config, batch["next_observation"], sample)
    target_critic = agent.target_critic
    next_observation = encoded(agent, target_critic, batch["next_observation"])
    if config.critic_subset:
        chosen = random.permutation(subset_key, config.critics)[: config.critic_subset]
        target_critic = {"params": map_tree(lambda leaf: leaf[chosen], target_critic["params"])}
    next_q = q_values(agent, target_critic, next_observation, next_action).amin(dim=0)
    info: Info = {}
    if config.improve == "proposals":
        base = batch["next_observation"][BASE_ACTION]
        base_q = q_values(agent, target_critic, next_observation, base).amin(dim=0)
        info["base_share"] = (base_q >= next_q).to(torch.float32).mean()
        next_q = torch.maximum(next_q, base_q)
    if config.backup_entropy:
        next_q = next_q - torch.exp(agent.log_temperature) * next_log_prob
    discount = batch.get("discount", config.discount)
    return batch["reward"] + discount * batch["mask"] * next_q, next_action, info


def critic_loss(agent: SACAgent, critic: Params, batch: Batch, key: torch.Tensor) -> tuple[torch.Tensor, Info]:
    """Mean squared error of all critics against the soft Bellman target; leaves of the batch are (B, ...)."""
    with torch.no_grad():
        target, next_action, info = bellman_target(agent, batch, key)
    observation = encoded(agent, critic, batch["observation"])
    q = q_values(agent, critic, observation, valued_action(batch, next_action))
    loss = (q - target).square().mean()
    return loss, {"critic_loss": loss, "q": q.mean(), **info}


def actor_loss(agent: SACAgent, actor: Params, batch: Batch, key: torch.Tensor) -> tuple[torch.Tensor, Info]:
    """Entropy-regularized negative value of the policy's actions; leaves of the batch are (B, ...)."""
    with torch.no_grad():
        observation = encoded(agent, agent.critic, batch["observation"])
    mean, log_std = policy(agent, actor, observation)
    sample, log_prob = squashed_sample(mean, log_std, own_rows(partial(random.normal, key), tuple(mean.shape)))
    action = executed(agent.config, batch["observation"], sample)
    q = q_values(agent, agent.critic, observation, action).mean(dim=0)
    loss = (torch.exp(agent.log_temperature) * log_prob - q).mean()
    return loss, {"actor_loss": loss, "entropy": -log_prob.mean()}


def temperature_loss(agent: SACAgent, log_temperature: torch.Tensor, entropy: torch.Tensor) -> torch.Tensor:
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
    return torch.exp(log_temperature) * (entropy - agent.acting.chunk * target)


def critic_step(agent: SACAgent, batch: Batch) -> tuple[SACAgent, Info]:
    """One update of critics and target critics on one minibatch. Touches neither actor nor temperature."""
    key, step_key = random.split(agent.key)
    slopes, info = gradients(lambda critic: critic_loss(agent, critic, batch, step_key), agent.critic)
    critic, optimizer = adam(agent.critic, slopes, agent.critic_optimizer, agent.config.critic_lr)
    target = follow(agent.target_critic, critic, agent.config.target_rate)
    agent = agent.replace(
        key=key, critic=critic, critic_optimizer=optimizer, target_critic=target, updates=agent.updates + 1
    )
    return agent, info


def actor_step(agent: SACAgent, batch: Batch) -> tuple[SACAgent, Info]:
    """One update of actor, temperature and what acts, on one minibatch. Touches no critic."""
    config = agent.config
    key, step_key = random.split(agent.key)
    slopes, info = gradients(lambda actor: actor_loss(agent, actor, batch, step_key), agent.actor)
    actor, optimizer = adam(agent.actor, slopes, agent.actor_optimizer, config.actor_lr)

    def loss(log_temperature: torch.Tensor) -> tuple[torch.Tensor, Info]:
        return temperature_loss(agent, log_temperature, info["entropy"]), {}

    slope, _ = gradients(loss, agent.log_temperature)
    log_temperature, temperature_optimizer = adam(
        agent.log_temperature, slope, agent.temperature_optimizer, config.temperature_lr
    )
    latest: dict[str, Any] = {"actor": actor, "vision": agent.critic["vision"]}
    agent = agent.replace(
        key=key,
        actor=actor,
        actor_optimizer=optimizer,
        acting_average=follow(agent.acting_average, latest, config.acting_rate),
        log_temperature=log_temperature,
        temperature_optimizer=temperature_optimizer,
    )
    return agent, info | {"temperature": torch.exp(log_temperature)}


_update = Update(critic_step, actor_step)
