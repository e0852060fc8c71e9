# SPDX-License-Identifier: Apache-2.0
"""Names and shapes of the tensors of an ACT network, as LeRobot keeps them (behind the prefix `model.`).

Layouts are PyTorch's: matrices (out, in), convolutions (out, in, height, width).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from serl_rl.foreign.act.config import ActConfig

PREFIX: Final = "model."
VAE_POSITIONS: Final = "vae_encoder_pos_enc"
"""The one tensor that is computed, not learned, and kept all the same."""

Named = Iterator[tuple[str, tuple[int, ...]]]


def parameter_shapes(config: ActConfig) -> dict[str, tuple[int, ...]]:
    """Shape of each tensor of the network, by its name without prefix."""
    return dict(_all(config))


def parameter_count(config: ActConfig) -> int:
    """Numbers in all tensors."""
    return sum(math.prod(shape) for _, shape in _all(config))


def is_trained(name: str) -> bool:
    """Whether a tensor is learned: batch normalisation of the backbone is frozen, and positions are computed."""
    return (
        name != VAE_POSITIONS
        and not (name.startswith("backbone.") and ".bn" in f".{name}")
        and (".downsample.1." not in name)
    )


def is_of_backbone(name: str) -> bool:
    """Whether a tensor belongs to the ResNet."""
    return name.startswith("backbone.")


def sinusoidal_positions(count: int, width: int) -> NDArray[np.float32]:
    """Positions (count, width) of a sequence: sines and cosines by turns (Vaswani et al., arXiv 1706.03762)."""
    exponents = 2 * (np.arange(width) // 2) / width
    angles = np.arange(count)[:, None] / np.power(10000.0, exponents)
    return np.where(np.arange(width) % 2 == 0, np.sin(angles), np.cos(angles)).astype(np.float32)


def vae_tokens(config: ActConfig) -> int:
    """Tokens of the VAE's encoder: the class token, the robot's state and the actions."""
    return config.chunk_size + 2


def _all(config: ActConfig) -> Named:
    width = config.dim_model
    if config.use_vae:
        for index in range(config.n_vae_encoder_layers):
            yield from _encoder_layer(f"vae_encoder.layers.{index}", config)
        if config.pre_norm:
            yield from _norm("vae_encoder.norm", width)
        yield "vae_encoder_cls_embed.weight", (1, width)
        yield from _linear("vae_encoder_robot_state_input_proj", config.state_size, width)
        yield from _linear("vae_encoder_action_input_proj", config.action_size, width)
        yield from _linear("vae_encoder_latent_output_proj", width, 2 * config.latent_dim)
        yield VAE_POSITIONS, (1, vae_tokens(config), width)
    if config.cameras:
        yield from _backbone(config)
    for index in range(config.n_encoder_layers):
        yield from _encoder_layer(f"encoder.layers.{index}", config)
    if config.pre_norm:
        yield from _norm("encoder.norm", width)
    for index in range(config.n_decoder_layers):
        name = f"decoder.layers.{index}"
        yield from _attention(f"{name}.multihead_attn", width)
        yield from _encoder_layer(name, config)
        yield from _norm(f"{name}.norm3", width)
    yield from _norm("decoder.norm", width)
    yield from _linear("encoder_robot_state_input_proj", config.state_size, width)
    if config.env_state_size is not None:
        yield from _linear("encoder_env_state_input_proj", config.env_state_size, width)
    yield from _linear("encoder_latent_input_proj", config.latent_dim, width)
    if config.cameras:
        yield "encoder_img_feat_input_proj.weight", (width, backbone_channels(config), 1, 1)
        yield "encoder_img_feat_input_proj.bias", (width,)
    yield "encoder_1d_feature_pos_embed.weight", (2 if config.env_state_size is None else 3, width)
    yield "decoder_pos_embed.weight", (config.chunk_size, width)
    yield from _linear("action_head", width, config.action_size)


def backbone_channels(config: ActConfig) -> int:
    """Channels of the map that the backbone makes."""
    return 2048 if config.bottleneck else 512


def _linear(name: str, inputs: int, outputs: int) -> Named:
    yield f"{name}.weight", (outputs, inputs)
    yield f"{name}.bias", (outputs,)


def _norm(name: str, width: int) -> Named:
    yield f"{name}.weight", (width,)
    yield f"{name}.bias", (width,)


def _attention(name: str, width: int) -> Named:
    yield f"{name}.in_proj_weight", (3 * width, width)
    yield f"{name}.in_proj_bias", (3 * width,)
    yield from _linear(f"{name}.out_proj", width, width)


def _encoder_layer(name: str, config: ActConfig) -> Named:
    width = config.dim_model
    yield from _attention(f"{name}.self_attn", width)
    yield from _linear(f"{name}.linear1", width, config.dim_feedforward)
    yield from _linear(f"{name}.linear2", config.dim_feedforward, width)
    yield from _norm(f"{name}.norm1", width)
    yield from _norm(f"{name}.norm2", width)


def _backbone(config: ActConfig) -> Named:
    yield "backbone.conv1.weight", (64, 3, 7, 7)
    yield from _frozen_norm("backbone.bn1", 64)
    inputs, expansion = 64, 4 if config.bottleneck else 1
    for stage, blocks in enumerate(config.backbone_blocks):
        width = 64 * 2**stage
        for block in range(blocks):
            name = f"backbone.layer{stage + 1}.{block}"
            kernels: tuple[tuple[int, int, int], ...]
            if config.bottleneck:
                kernels = ((inputs, width, 1), (width, width, 3), (width, width * expansion, 1))
            else:
                kernels = ((inputs, width, 3), (width, width, 3))
            for index, (channels, made, size) in enumerate(kernels, 1):
                yield f"{name}.conv{index}.weight", (made, channels, size, size)
                yield from _frozen_norm(f"{name}.bn{index}", made)
            if block == 0 and (stage > 0 or inputs != width * expansion):
                yield f"{name}.downsample.0.weight", (width * expansion, inputs, 1, 1)
                yield from _frozen_norm(f"{name}.downsample.1", width * expansion)
            inputs = width * expansion


def _frozen_norm(name: str, channels: int) -> Named:
    for part in ("weight", "bias", "running_mean", "running_var"):
        yield f"{name}.{part}", (channels,)
