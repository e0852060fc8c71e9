# SPDX-License-Identifier: Apache-2.0
"""ACT policies to measure with: LeRobot's default size and two other architectures, with drawn weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from serl_rl.foreign.act.config import ActConfig, ActFeature
from serl_rl.foreign.act.directory import ActCheckpoint
from serl_rl.foreign.act.initial import initial_parameters

STATE_SIZE: Final = 14
ACTION_SIZE: Final = 7


def architectures() -> dict[str, ActConfig]:
    """Three architectures, the first with LeRobot's default sizes and two cameras of 128 x 128 pixels."""
    return {
        "default": _config({"front": (128, 128), "wrist": (128, 128)}),
        "pre_norm": _config(
            {"top": (96, 128), "side": (128, 96)},
            pre_norm=True,
            feedforward_activation="gelu",
            n_decoder_layers=2,
            dim_model=256,
            temporal_ensemble_coeff=0.01,
            n_action_steps=1,
            normalization_mapping={"VISUAL": "MEAN_STD", "STATE": "MIN_MAX", "ACTION": "MIN_MAX"},
        ),
        "bottleneck": _config(
            {"wrist": (128, 128)},
            vision_backbone="resnet50",
            replace_final_stride_with_dilation=True,
            use_vae=False,
            dim_model=256,
            dim_feedforward=1024,
            n_decoder_layers=7,
            chunk_size=20,
            n_action_steps=10,
        ),
    }


def trained_architecture() -> ActConfig:
    """LeRobot's default sizes, with two cameras of 64 x 64 pixels and short chunks: what two cores can train."""
    return _config({"front": (64, 64), "wrist": (64, 64)}, chunk_size=20, n_action_steps=10)


def drawn_checkpoint(config: ActConfig, seed: int = 0) -> ActCheckpoint:
    """A policy with initial weights, batch normalisation that does something, and statistics."""
    rng = np.random.default_rng(seed)
    parameters = initial_parameters(config, seed)
    for name, values in parameters.items():
        if name.endswith("running_mean"):
            parameters[name] = rng.normal(0, 0.1, values.shape).astype(np.float32)
        elif name.endswith("running_var"):
            parameters[name] = rng.uniform(0.8, 1.25, values.shape).astype(np.float32)
    statistics = {}
    for name, feature in config.features.items():
        shape = (3, 1, 1) if feature.type == "VISUAL" else feature.shape
        statistics[name] = {
            kind: rng.uniform(low, low + 0.2, shape).astype(np.float32)
            for kind, low in (("mean", 0.3), ("std", 0.3), ("min", -1), ("max", 0.8))
        }
    return ActCheckpoint(config, parameters, statistics)


def drawn_observation(inputs: Mapping[str, tuple[int, ...]], rng: np.random.Generator) -> dict[str, NDArray[Any]]:
    """Random pictures (H, W, 3), uint8, and vectors (n,), by the names of a policy's inputs."""
    return {
        name: rng.integers(0, 256, shape, dtype=np.uint8)
        if len(shape) == 3
        else rng.standard_normal(shape).astype(np.float32)
        for name, shape in inputs.items()
    }


def _config(cameras: Mapping[str, tuple[int, int]], **settings: Any) -> ActConfig:
    inputs = {f"observation.images.{name}": ActFeature("VISUAL", (3, *size)) for name, size in cameras.items()}
    inputs["observation.state"] = ActFeature("STATE", (STATE_SIZE,))
    return ActConfig(
        input_features=inputs, output_features={"action": ActFeature("ACTION", (ACTION_SIZE,))}, **settings
    )
