# SPDX-License-Identifier: Apache-2.0
"""The settings of learning: what `config/learning/*.yaml` holds. Imports no JAX, so that actors can read it too."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Activation = Literal["relu", "tanh"]


class ConfigError(ValueError):
    """A setting with a value that cannot work: says which, what was expected and what was found."""


def _require(condition: bool, name: str, expected: str, found: object) -> None:
    if not condition:
        raise ConfigError(f"{name}: expected {expected}, found {found!r}")


@dataclass(frozen=True)
class SACConfig:
    """Soft actor-critic (Haarnoja et al., arXiv 1812.05905) with the critics of RLPD (arXiv 2302.02948).

    hidden_sizes: widths of the hidden layers of actor and critics
    activation, layer_norm: of every hidden layer; the normalization comes before the activation
    critics: size of the ensemble
    critic_subset: critics drawn at random for each target, which is their minimum (REDQ, arXiv 2101.05982); 0 for all
    discount: gamma of one environment step
    target_rate: tau, share of the critic that moves into the target critic at each update
    actor_lr, critic_lr, temperature_lr: Adam step sizes
    initial_temperature: of the entropy bonus, tuned so that the policy's entropy nears `target_entropy` [nat]
    target_entropy: None stands for minus half the number of action components
    backup_entropy: whether targets contain the entropy bonus of the next state
    """

    hidden_sizes: tuple[int, ...] = (64, 64)
    activation: Activation = "relu"
    layer_norm: bool = True
    critics: int = 2
    critic_subset: int = 0
    discount: float = 0.95
    target_rate: float = 0.01
    actor_lr: float = 2e-3
    critic_lr: float = 2e-3
    temperature_lr: float = 2e-3
    initial_temperature: float = 0.1
    target_entropy: float | None = None
    backup_entropy: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden_sizes", tuple(self.hidden_sizes))
        sizes = self.hidden_sizes
        _require(bool(sizes) and all(1 <= size <= 4096 for size in sizes), "hidden_sizes", "widths 1 to 4096", sizes)
        _require(self.activation in ("relu", "tanh"), "activation", "relu or tanh", self.activation)
        _require(1 <= self.critics <= 100, "critics", "1 to 100", self.critics)
        _require(0 <= self.critic_subset <= self.critics, "critic_subset", "0 to critics", self.critic_subset)
        _require(0.0 <= self.discount < 1.0, "discount", "0 <= value < 1", self.discount)
        _require(0.0 < self.target_rate <= 1.0, "target_rate", "0 < value <= 1", self.target_rate)
        for name in ("actor_lr", "critic_lr", "temperature_lr"):
            _require(0.0 < getattr(self, name) < 1.0, name, "0 < value < 1", getattr(self, name))
        temperature = self.initial_temperature
        _require(0.0 < temperature <= 100.0, "initial_temperature", "0 < value <= 100", temperature)
        entropy = self.target_entropy
        _require(entropy is None or -1e4 < entropy < 1e4, "target_entropy", "a finite number or null", entropy)


@dataclass(frozen=True)
class LearningConfig:
    """How a policy is learned from demonstrations and own experience.

    sac: the agent
    batch_size: transitions per minibatch, half of them demonstrations
    utd_ratio: critic updates per environment step; the actor is updated once
    random_steps: environment steps with uniformly random actions before the policy acts
    training_starts: online transitions before the first update
    replay_capacity, demonstration_capacity: transitions
    demonstrations: episodes shown before training
    demonstration_noise: standard deviation of the Gaussian noise on the scripted expert's actions
    """

    sac: SACConfig = field(default_factory=SACConfig)
    batch_size: int = 128
    utd_ratio: int = 2
    random_steps: int = 100
    training_starts: int = 100
    replay_capacity: int = 200_000
    demonstration_capacity: int = 50_000
    demonstrations: int = 20
    demonstration_noise: float = 0.3

    def __post_init__(self) -> None:
        _require(2 <= self.batch_size <= 2**16, "batch_size", "2 to 65536", self.batch_size)
        _require(1 <= self.utd_ratio <= 1000, "utd_ratio", "1 to 1000", self.utd_ratio)
        for name in ("random_steps", "training_starts", "demonstrations"):
            _require(0 <= getattr(self, name) <= 10**7, name, "0 to 10000000", getattr(self, name))
        for name in ("replay_capacity", "demonstration_capacity"):
            _require(1 <= getattr(self, name) <= 10**8, name, "1 to 100000000", getattr(self, name))
        noise = self.demonstration_noise
        _require(0.0 <= noise <= 1.0, "demonstration_noise", "0 to 1", noise)
