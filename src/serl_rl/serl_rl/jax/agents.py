# SPDX-License-Identifier: Apache-2.0
"""The algorithms in JAX, by their names in the configuration."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import jax
from jax.sharding import Mesh

from serl_rl.agent import Agent
from serl_rl.config import LearningConfig, VisionConfig
from serl_rl.encoders.encoder import Encoder
from serl_rl.frozen_encoder import FrozenEncoderAgent
from serl_rl.jax.bc import BCAgent
from serl_rl.jax.devices import mesh_for, on_mesh
from serl_rl.jax.drqv2 import DrQv2Agent
from serl_rl.jax.encoders.networks import encoder_params
from serl_rl.jax.hybrid import HybridAgent
from serl_rl.jax.per_arm import PerArmAgent
from serl_rl.jax.sac import SACAgent
from serl_rl.jax.update import prepared
from serl_rl.jax.vice import VICEAgent
from serl_rl.spec import TransitionSpec
from serl_rl.vision_inputs import has_pictures

Tree = TypeVar("Tree")

Algorithm = SACAgent | DrQv2Agent | HybridAgent | VICEAgent | BCAgent


def create_agent(seed: int, spec: TransitionSpec, config: LearningConfig, encoder: Encoder | None = None) -> Agent:
    """A new agent of the configured algorithm, as `serl_rl.backends.create_agent`."""
    mesh = mesh_for(config)
    if has_pictures(spec) and config.vision.encoder.frozen:

        def create(spec: TransitionSpec, vision: VisionConfig) -> Algorithm | PerArmAgent:
            return _create(seed, spec, replace(config, vision=vision), None, mesh)

        return FrozenEncoderAgent.create(
            create,
            spec,
            config.vision,
            encoder,
            place=lambda encoder, _: _on(mesh, jax.device_put(encoder_params(encoder))),
            prepared=prepared,
        )
    return _create(seed, spec, config, encoder, mesh)


def _create(
    seed: int, spec: TransitionSpec, config: LearningConfig, encoder: Encoder | None, mesh: Mesh | None
) -> Algorithm | PerArmAgent:
    if config.policies == "per_arm":
        return _on(mesh, PerArmAgent.create(seed, spec, lambda seed, spec: _create_one(seed, spec, config, encoder)))
    return _on(mesh, _create_one(seed, spec, config, encoder))


def _on(mesh: Mesh | None, tree: Tree) -> Tree:
    return tree if mesh is None else on_mesh(tree, mesh)


def _create_one(seed: int, spec: TransitionSpec, config: LearningConfig, encoder: Encoder | None) -> Algorithm:
    match config.agent:
        case "sac":
            return SACAgent.create(seed, spec, config.sac, config.vision, encoder, config.acting)
        case "drqv2":
            return DrQv2Agent.create(seed, spec, config.drqv2, config.vision, encoder, config.acting)
        case "hybrid":
            return HybridAgent.create(seed, spec, config.hybrid, config.sac, config.vision, encoder, config.acting)
        case "vice":
            return VICEAgent.create(seed, spec, config.vice, config.sac, config.vision, encoder, config.acting)
        case "bc":
            return BCAgent.create(seed, spec, config.bc, config.vision, encoder)
