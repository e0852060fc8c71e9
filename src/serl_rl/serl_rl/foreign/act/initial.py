# SPDX-License-Identifier: Apache-2.0
"""The weights with which the training of an ACT policy begins, drawn as LeRobot and PyTorch draw them."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from serl_rl.foreign.act.config import ActConfig
from serl_rl.foreign.act.parameters import VAE_POSITIONS, parameter_shapes, sinusoidal_positions, vae_tokens


def initial_parameters(config: ActConfig, seed: int) -> dict[str, NDArray[np.float32]]:
    """Tensors by name, named and shaped as `parameter_shapes` says.

    Matrices of encoder and decoder are uniform after Glorot and Bengio (2010), other linear layers uniform within
    1 / sqrt(inputs), convolutions normal after He et al. (arXiv 1502.01852) by their outputs, embeddings standard
    normal.

    Args:
        config: of the policy.
        seed: of what is drawn.
    """
    rng = np.random.default_rng(seed)
    shapes = parameter_shapes(config)
    made: dict[str, NDArray[np.float32]] = {}
    for name, shape in shapes.items():
        if name == VAE_POSITIONS:
            values: NDArray[np.float64] | NDArray[np.float32] = sinusoidal_positions(vae_tokens(config), shape[-1])[
                None
            ]
        elif name.startswith("backbone.") and len(shape) == 4:
            values = rng.normal(0, math.sqrt(2 / (shape[0] * shape[2] * shape[3])), shape)
        elif "embed" in name:
            values = rng.standard_normal(shape)
        elif len(shape) == 1:
            values = _vector(name, shape, shapes, rng)
        elif name.startswith(("encoder.", "decoder.")) or name.endswith("in_proj_weight"):
            limit = math.sqrt(6 / sum(shape))
            values = rng.uniform(-limit, limit, shape)
        else:
            limit = 1 / math.sqrt(math.prod(shape[1:]))
            values = rng.uniform(-limit, limit, shape)
        made[name] = values.astype(np.float32)
    return made


def _vector(
    name: str, shape: tuple[int, ...], shapes: dict[str, tuple[int, ...]], rng: np.random.Generator
) -> NDArray[np.float64]:
    """A bias, or a scale of a normalisation."""
    matrix = shapes.get(f"{name.removesuffix('.bias')}.weight", (1,))
    if name.endswith((".weight", ".running_var")):
        return np.ones(shape)
    if len(matrix) == 1 or name.endswith(("in_proj_bias", "out_proj.bias")):
        return np.zeros(shape)
    limit = 1 / math.sqrt(math.prod(matrix[1:]))
    return rng.uniform(-limit, limit, shape)
