# SPDX-License-Identifier: Apache-2.0
"""The algorithms in PyTorch, by their names in the configuration."""

from __future__ import annotations

from dataclasses import replace

from serl_rl.agent import Agent
from serl_rl.config import LearningConfig, VisionConfig
from serl_rl.encoders.encoder import Encoder
from serl_rl.frozen_encoder import FrozenEncoderAgent
from serl_rl.spec import TransitionSpec
from serl_rl.torch.bc import BCAgent
from serl_rl.torch.computing.parallel import place
from serl_rl.torch.drqv2 import DrQv2Agent
from serl_rl.torch.encoders.networks import encoder_params
from serl_rl.torch.hybrid import HybridAgent
from serl_rl.torch.per_arm import PerArmAgent
from serl_rl.torch.prepare import prepared
from serl_rl.torch.sac import SACAgent
from serl_rl.torch.vice import VICEAgent
from serl_rl.vision_inputs import has_pictures

Algorithm = SACAgent | DrQv2Agent | HybridAgent | VICEAgent | BCAgent


def create_agent(seed: int, spec: TransitionSpec, config: LearningConfig, encoder: Encoder | None = None) -> Agent:
    """A new agent of the configured algorithm, as `serl_rl.backends.create_agent`."""
    config.check_processes(place()[1])
    if has_pictures(spec) and config.vision.encoder.frozen:

        def create(spec: TransitionSpec, vision: VisionConfig) -> Algorithm | PerArmAgent:
            return _create(seed, spec, replace(config, vision=vision), None)

        return FrozenEncoderAgent.create(
            create,
            spec,
            config.vision,
            encoder,
            place=lambda encoder, agent: encoder_params(encoder, agent.key.device),
            prepared=prepared,
        )
    return _create(seed, spec, config, encoder)


def _create(
    seed: int, spec: TransitionSpec, config: LearningConfig, encoder: Encoder | None
) -> Algorithm | PerArmAgent:
    if config.policies == "per_arm":
        return PerArmAgent.create(seed, spec, lambda seed, spec: _create_one(seed, spec, config, encoder))
    return _create_one(seed, spec, config, encoder)


def _create_one(seed: int, spec: TransitionSpec, config: LearningConfig, encoder: Encoder | None) -> Algorithm:
    vision, acting, computing = config.vision, config.acting, config.torch
    match config.agent:
        case "sac":
            return SACAgent.create(seed, spec, config.sac, vision, encoder, acting, computing)
        case "drqv2":
            return DrQv2Agent.create(seed, spec, config.drqv2, vision, encoder, acting, computing)
        case "hybrid":
            return HybridAgent.create(seed, spec, config.hybrid, config.sac, vision, encoder, acting, computing)
        case "vice":
            return VICEAgent.create(seed, spec, config.vice, config.sac, vision, encoder, acting, computing)
        case "bc":
            return BCAgent.create(seed, spec, config.bc, vision, encoder, computing)
