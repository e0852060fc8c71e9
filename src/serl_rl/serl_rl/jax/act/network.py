# SPDX-License-Identifier: Apache-2.0
"""The network of ACT (Zhao et al., arXiv 2304.13705): a chunk of actions from pictures, the robot's state and a latent.

Pictures, states and actions are normalised here already; `serl_rl.foreign.act.normalization` does that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from serl_rl.foreign.act.config import ActConfig
from serl_rl.foreign.act.parameters import VAE_POSITIONS
from serl_rl.jax.act.backbone import Convolution, feature_map
from serl_rl.jax.act.transformer import Drop, begin_decoding, decode, encode, linear, no_drop

Parameters = Mapping[str, Any]


class Inputs(NamedTuple):
    """What the network takes, normalised."""

    pictures: Sequence[jax.Array]
    """(B, H, W, 3) of each camera, in the configuration's order."""
    state: jax.Array
    """(B, S) of the robot."""
    env_state: jax.Array | None = None
    """(B, E) of the environment, where it is observed."""
    maps: Sequence[jax.Array] = ()
    """(B, h, w, C) of each camera, of a backbone that is not trained: in the place of pictures."""


class Latent(NamedTuple):
    """A normal distribution of latents (B, L)."""

    mean: jax.Array
    log_variance: jax.Array


def predict(
    p: Parameters,
    layers: Mapping[str, Convolution],
    config: ActConfig,
    inputs: Inputs,
    latent: jax.Array | None = None,
    drop: Drop = no_drop,
    begun: jax.Array | None = None,
) -> jax.Array:
    """Chunks of normalised actions (B, C, A).

    Args:
        p: tensors of the network.
        layers: the backbone's convolutions, which `serl_rl.jax.act.backbone.fold` makes of the tensors.
        config: of the policy.
        inputs: what is observed.
        latent: (B, L); None: zeros, with which a policy acts.
        drop: dropout, in training.
        begun: (B, C, D) from `begin_decoding`, for who acts often with the same weights; None: it is computed.
    """
    batch = inputs.state.shape[0]
    if latent is None:
        latent = jnp.zeros((batch, config.latent_dim))
    tokens = [linear(p, "encoder_latent_input_proj", latent), linear(p, "encoder_robot_state_input_proj", inputs.state)]
    if inputs.env_state is not None:
        tokens.append(linear(p, "encoder_env_state_input_proj", inputs.env_state))
    sequence, positions = [jnp.stack(tokens, 1)], [p["encoder_1d_feature_pos_embed.weight"]]
    for seen in inputs.maps or _maps(layers, config, inputs.pictures):
        height, width = seen.shape[1:3]
        matrix = p["encoder_img_feat_input_proj.weight"][:, :, 0, 0]
        projected = jnp.einsum("bhwi,oi->bhwo", seen, matrix) + p["encoder_img_feat_input_proj.bias"]
        sequence.append(projected.reshape(batch, height * width, config.dim_model))
        positions.append(jnp.asarray(picture_positions(height, width, config.dim_model)))
    place = jnp.concatenate(positions)
    memory = encode(p, "encoder", config, config.n_encoder_layers, jnp.concatenate(sequence, 1), place, drop=drop)
    if begun is None:
        begun = begin_decoding(p, config, batch, drop)
    return linear(p, "action_head", decode(p, config, begun, memory, place, drop))


def encode_actions(
    p: Parameters, config: ActConfig, state: jax.Array, actions: jax.Array, padding: jax.Array, drop: Drop = no_drop
) -> Latent:
    """The latent that the VAE's encoder sees in demonstrated actions.

    Args:
        p: tensors of the network.
        config: of the policy.
        state: (B, S).
        actions: (B, C, A).
        padding: (B, C), true where the demonstration had ended.
        drop: dropout, in training.
    """
    batch = state.shape[0]
    first = jnp.broadcast_to(p["vae_encoder_cls_embed.weight"], (batch, 1, config.dim_model))
    second = linear(p, "vae_encoder_robot_state_input_proj", state)[:, None]
    tokens = jnp.concatenate([first, second, linear(p, "vae_encoder_action_input_proj", actions)], 1)
    nothing = jnp.concatenate([jnp.zeros((batch, 2), bool), padding], 1)
    positions = jax.lax.stop_gradient(p[VAE_POSITIONS][0])
    layers = config.n_vae_encoder_layers
    made = encode(p, "vae_encoder", config, layers, tokens, positions, drop=drop, padding=nothing)
    mean, log_variance = jnp.split(linear(p, "vae_encoder_latent_output_proj", made[:, 0]), 2, -1)
    return Latent(mean, log_variance)


def picture_positions(height: int, width: int, size: int) -> NDArray[np.float32]:
    """Positions (height * width, size) of a feature map, row by row: sines and cosines of y, then of x."""
    half = size // 2
    frequencies = 10000.0 ** (2 * (np.arange(half) // 2) / half)
    waves = []
    for count in (height, width):
        angles = np.arange(1, count + 1) / (count + 1e-6) * 2 * np.pi
        each = angles[:, None] / frequencies
        waves.append(np.where(np.arange(half) % 2 == 0, np.sin(each), np.cos(each)))
    y = np.repeat(waves[0], width, 0)
    x = np.tile(waves[1], (height, 1))
    return np.concatenate([y, x], 1).astype(np.float32)


def _maps(layers: Mapping[str, Convolution], config: ActConfig, pictures: Sequence[jax.Array]) -> list[jax.Array]:
    """The feature map of each camera; pictures of one size go through the backbone together."""
    if len({each.shape for each in pictures}) > 1:
        return [feature_map(layers, config, each) for each in pictures]
    return jnp.split(feature_map(layers, config, jnp.concatenate(pictures)), len(pictures)) if pictures else []
