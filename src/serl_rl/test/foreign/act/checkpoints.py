# SPDX-License-Identifier: Apache-2.0
"""ACT policies with random weights, for tests."""

from typing import Any

import numpy as np
from serl_rl.foreign.act.config import ActConfig, ActFeature
from serl_rl.foreign.act.directory import ActCheckpoint
from serl_rl.foreign.act.parameters import VAE_POSITIONS, parameter_shapes, sinusoidal_positions, vae_tokens

STATE_SIZE, ENV_SIZE, ACTION_SIZE = 3, 5, 2


def small_config(cameras: tuple[tuple[str, int, int], ...] = (), **settings: Any) -> ActConfig:
    """A narrow network; without cameras (name, height, width) it observes the environment's state."""
    inputs = {f"observation.images.{name}": ActFeature("VISUAL", (3, h, w)) for name, h, w in cameras}
    inputs["observation.state"] = ActFeature("STATE", (STATE_SIZE,))
    if not cameras:
        inputs["observation.environment_state"] = ActFeature("ENV", (ENV_SIZE,))
    sizes = {"chunk_size": 6, "n_action_steps": 6, "dim_model": 16, "n_heads": 2, "dim_feedforward": 24}
    layers = {"n_encoder_layers": 1, "n_vae_encoder_layers": 1, "latent_dim": 4}
    outputs = {"action": ActFeature("ACTION", (ACTION_SIZE,))}
    return ActConfig(input_features=inputs, output_features=outputs, **{**sizes, **layers, **settings})


def random_checkpoint(config: ActConfig, seed: int = 0) -> ActCheckpoint:
    """Weights of a plausible size, batch normalisation that does something, statistics of every kind."""
    rng = np.random.default_rng(seed)
    parameters = {}
    for name, shape in parameter_shapes(config).items():
        fan_in = int(np.prod(shape[1:])) if len(shape) > 1 else 1
        values = rng.normal(0, np.sqrt(1.5 / fan_in) if len(shape) > 1 else 0.1, shape)
        if name.endswith("running_var"):
            values = rng.uniform(0.5, 2, shape)
        elif len(shape) == 1 and name.endswith("weight"):
            values += 1
        parameters[name] = values.astype(np.float32)
    if config.use_vae:
        parameters[VAE_POSITIONS] = sinusoidal_positions(vae_tokens(config), config.dim_model)[None]
    statistics = {}
    for name, feature in config.features.items():
        shape = (3, 1, 1) if feature.type == "VISUAL" else feature.shape
        low = rng.uniform(-1, 0, shape)
        levels = dict(
            zip(
                ("min", "q01", "q10", "mean", "q90", "q99", "max"),
                low + np.arange(7)[:, None].reshape((7,) + (1,) * len(shape)) * rng.uniform(0.1, 0.4, shape),
                strict=True,
            )
        )
        levels["std"] = rng.uniform(0.3, 1.0, shape)
        statistics[name] = {kind: np.asarray(values, np.float32) for kind, values in levels.items()}
    return ActCheckpoint(config, parameters, statistics)
