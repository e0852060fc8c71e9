# SPDX-License-Identifier: Apache-2.0
"""The settings of learning: what `config/learning/*.yaml` holds. Imports no JAX, so that actors can read it too."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass

_STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)

Activation = Literal["relu", "tanh"]
Width = Annotated[int, Field(ge=1, le=4096)]
LearningRate = Annotated[float, Field(gt=0.0, lt=1.0)]
Count = Annotated[int, Field(ge=0, le=10**7)]
Capacity = Annotated[int, Field(ge=1, le=10**8)]


@dataclass(frozen=True, config=_STRICT)
class SACConfig:
    """Soft actor-critic (Haarnoja et al., arXiv 1812.05905) with the critics of RLPD (arXiv 2302.02948)."""

    hidden_sizes: Annotated[tuple[Width, ...], Field(min_length=1, max_length=8)] = (64, 64)
    """Widths of the hidden layers of actor and critics."""
    activation: Activation = "relu"
    layer_norm: bool = True
    """Normalize every hidden layer before its activation."""
    critics: int = Field(default=2, ge=1, le=100)
    """Size of the ensemble."""
    critic_subset: int = Field(default=0, ge=0)
    """Critics drawn at random for each target, which is their minimum (REDQ, arXiv 2101.05982); 0 for all."""
    discount: float = Field(default=0.95, ge=0.0, lt=1.0)
    """Gamma of one environment step."""
    target_rate: float = Field(default=0.01, gt=0.0, le=1.0)
    """Tau, the share of the critic that moves into the target critic at each update."""
    actor_lr: LearningRate = 2e-3
    critic_lr: LearningRate = 2e-3
    temperature_lr: LearningRate = 2e-3
    """Step sizes of Adam."""
    initial_temperature: float = Field(default=0.1, gt=0.0, le=100.0)
    """Weight of the entropy bonus; then tuned so that the entropy of the policy nears `target_entropy`."""
    target_entropy: float | None = Field(default=None, ge=-1e4, le=1e4)
    """Of the policy [nat]; None stands for minus half the number of action components."""
    backup_entropy: bool = False
    """Whether targets contain the entropy bonus of the next state."""

    @model_validator(mode="after")
    def _subset_fits(self) -> Self:
        if self.critic_subset > self.critics:
            raise ValueError(f"critic_subset: expected at most {self.critics}, the critics, found {self.critic_subset}")
        return self


@dataclass(frozen=True, config=_STRICT)
class EncoderConfig:
    """The network that turns pictures into feature maps."""

    kind: Literal["small", "resnet10", "resnet18", "resnet34", "mobilenet"] = "small"
    weights: str = "auto"
    """auto: those that are shipped for the task's cameras, random ones where there are none; random; a name in
    config/encoders; or the path of a safetensors file."""
    seed: int = Field(default=0, ge=0)
    """Of random weights."""
    frozen: bool = True
    """Whether the weights stay as they are; otherwise they are trained with the critic."""
    cached: bool = True
    """With a frozen encoder: pictures are encoded once, when they arrive, and the learner sees no pixels."""
    views: int = Field(default=2, ge=1, le=16)
    """With cached features: the picture itself and views - 1 randomly shifted ones are encoded and stored."""
    shift: int = Field(default=4, ge=0, le=64)
    """Largest random shift along each axis [pixels] (DrQ, arXiv 2004.13649)."""

    @property
    def caches_features(self) -> bool:
        """Whether observations hold features instead of pictures."""
        return self.frozen and self.cached


@dataclass(frozen=True, config=_STRICT)
class VisionConfig:
    """How agents look at pictures. Each camera has parameters of its own after the encoder, which all share."""

    encoder: EncoderConfig = Field(default_factory=EncoderConfig)
    pooling: Literal["spatial_embeddings", "spatial_softmax", "average"] = "spatial_embeddings"
    """What makes a vector of a feature map."""
    embeddings: int = Field(default=8, ge=1, le=64)
    """Learned spatial weightings of each channel, with spatial_embeddings."""
    width: Width = 64
    """Of the dense layer behind the pooling, which layer normalization and tanh follow."""
    frame_stack: int = Field(default=1, ge=1, le=16)
    """Pictures that make one observation: the newest and those before it."""
    storage: Literal["raw", "jpeg"] = "raw"
    """How the replay buffer keeps pictures, where it has any."""
    jpeg_quality: int = Field(default=95, ge=1, le=100)


@dataclass(frozen=True, config=_STRICT)
class LearningConfig:
    """How a policy is learned from demonstrations and own experience."""

    agent: Literal["sac"] = "sac"
    """The algorithm; its settings are under its name."""
    sac: SACConfig = Field(default_factory=SACConfig)
    vision: VisionConfig = Field(default_factory=VisionConfig)
    """For tasks with cameras."""
    batch_size: int = Field(default=128, ge=2, le=2**16)
    """Transitions in a minibatch, half of them demonstrations."""
    utd_ratio: int = Field(default=2, ge=1, le=1000)
    """Critic updates per environment step; actor and temperature are updated once."""
    random_steps: Count = 100
    """Environment steps with uniformly random actions before the policy acts."""
    training_starts: Count = 100
    """Online transitions before the first update."""
    replay_capacity: Capacity = 200_000
    demonstration_capacity: Capacity = 50_000
    """Transitions."""
