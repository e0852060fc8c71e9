# SPDX-License-Identifier: Apache-2.0
"""Layers of a transformer with positions added to queries and keys alone, as in DETR (Carion et al., arXiv 2005.12872).

Tensors are named and laid out as `serl_rl.foreign.act.parameters` says: matrices (out, in).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from serl_rl.foreign.act.config import ActConfig

Parameters = Mapping[str, Any]
Drop = Callable[[jax.Array], jax.Array]

NORM_EPSILON = 1e-5
_MOST_DROPS = 1024  # 64 layers each of encoder, decoder and the VAE, with at most six calls


def no_drop(x: jax.Array) -> jax.Array:
    """The dropout of a network that acts: the same (..., n)."""
    return x


def make_drop(rate: float, key: jax.Array) -> Drop:
    """Dropout at this rate of arrays (...), with a key (); each call within one trace draws anew."""
    if rate == 0:
        return no_drop
    if rate == 1:
        return jnp.zeros_like
    # One operation draws the bits of a call: dozens of threefry generators take a minute to compile.
    seeds = iter(jax.random.bits(key, (_MOST_DROPS, 4)))

    def drop(x: jax.Array) -> jax.Array:
        kept = jax.random.bernoulli(jax.random.wrap_key_data(next(seeds), impl="rbg"), 1 - rate, x.shape)
        return jnp.where(kept, x / (1 - rate), 0)

    return drop


def linear(p: Parameters, name: str, x: jax.Array) -> jax.Array:
    """(..., out) of (..., in)."""
    return jnp.einsum("...i,oi->...o", x, p[f"{name}.weight"]) + p[f"{name}.bias"]


def layer_norm(p: Parameters, name: str, x: jax.Array) -> jax.Array:
    """Vectors (..., D), each with mean 0 and variance 1, then scaled and shifted."""
    x = x - x.mean(-1, keepdims=True)
    x = x * jax.lax.rsqrt((x * x).mean(-1, keepdims=True) + NORM_EPSILON)
    return x * p[f"{name}.weight"] + p[f"{name}.bias"]


def attention(
    p: Parameters,
    name: str,
    config: ActConfig,
    queries: jax.Array,
    keys: jax.Array,
    values: jax.Array,
    *,
    drop: Drop = no_drop,
    padding: jax.Array | None = None,
) -> jax.Array:
    """Attention of several heads (Vaswani et al., arXiv 1706.03762).

    Args:
        p: tensors of the network.
        name: of this attention.
        config: says how many heads.
        queries: (B, Q, D).
        keys: (B, K, D).
        values: (B, K, D).
        drop: applied to the weights of values.
        padding: (B, K), true where there is nothing to look at.

    Returns:
        (B, Q, D).
    """
    heads, width = config.n_heads, config.dim_model // config.n_heads
    matrices = jnp.split(p[f"{name}.in_proj_weight"], 3)
    biases = jnp.split(p[f"{name}.in_proj_bias"], 3)
    q, k, v = (
        (jnp.einsum("bti,oi->bto", x, matrix) + bias).reshape(x.shape[0], x.shape[1], heads, width)
        for x, matrix, bias in zip((queries, keys, values), matrices, biases, strict=True)
    )
    scores = jnp.einsum("bqhd,bkhd->bhqk", q * width**-0.5, k)
    if padding is not None:
        scores = jnp.where(padding[:, None, None, :], -jnp.inf, scores)
    mixed = jnp.einsum("bhqk,bkhd->bqhd", drop(jax.nn.softmax(scores)), v)
    return linear(p, f"{name}.out_proj", mixed.reshape(queries.shape[0], queries.shape[1], config.dim_model))


def encode(
    p: Parameters,
    name: str,
    config: ActConfig,
    layers: int,
    x: jax.Array,
    positions: jax.Array,
    *,
    drop: Drop = no_drop,
    padding: jax.Array | None = None,
) -> jax.Array:
    """An encoder of so many layers over tokens (B, T, D) at positions (T, D)."""
    for index in range(layers):
        layer = f"{name}.layers.{index}"

        def attend(x: jax.Array, layer: str = layer) -> jax.Array:
            place = x + positions
            return attention(p, f"{layer}.self_attn", config, place, place, x, drop=drop, padding=padding)

        x = _residual(p, f"{layer}.norm1", config, x, attend, drop)
        x = _residual(p, f"{layer}.norm2", config, x, _feed_forward(p, layer, config, drop), drop)
    return layer_norm(p, f"{name}.norm", x) if config.pre_norm else x


def begin_decoding(p: Parameters, config: ActConfig, batch: int, drop: Drop = no_drop) -> jax.Array:
    """What the first attention of the decoder makes (B, C, D) of the zeros with which it begins; nothing is seen."""
    zeros = jnp.zeros((batch, config.chunk_size, config.dim_model))
    return _attend_to_itself(p, 0, config, zeros, drop) if config.n_decoder_layers else zeros


def decode(
    p: Parameters,
    config: ActConfig,
    begun: jax.Array,
    memory: jax.Array,
    memory_positions: jax.Array,
    drop: Drop = no_drop,
) -> jax.Array:
    """What the decoder makes (B, C, D) of tokens that the encoder made.

    Args:
        p: tensors of the network.
        config: of the policy.
        begun: (B, C, D), from `begin_decoding`.
        memory: (B, T, D) tokens.
        memory_positions: (T, D).
        drop: dropout, in training.
    """
    positions, x = p["decoder_pos_embed.weight"], begun
    for index in range(config.n_decoder_layers):
        layer = f"decoder.layers.{index}"
        if index > 0:
            x = _attend_to_itself(p, index, config, x, drop)

        def look(x: jax.Array, layer: str = layer) -> jax.Array:
            keys = memory + memory_positions
            return attention(p, f"{layer}.multihead_attn", config, x + positions, keys, memory, drop=drop)

        x = _residual(p, f"{layer}.norm2", config, x, look, drop)
        x = _residual(p, f"{layer}.norm3", config, x, _feed_forward(p, layer, config, drop), drop)
    return layer_norm(p, "decoder.norm", x)


def _attend_to_itself(p: Parameters, index: int, config: ActConfig, x: jax.Array, drop: Drop) -> jax.Array:
    layer, positions = f"decoder.layers.{index}", p["decoder_pos_embed.weight"]

    def attend(x: jax.Array) -> jax.Array:
        place = x + positions
        return attention(p, f"{layer}.self_attn", config, place, place, x, drop=drop)

    return _residual(p, f"{layer}.norm1", config, x, attend, drop)


def _residual(
    p: Parameters, norm: str, config: ActConfig, x: jax.Array, function: Callable[[jax.Array], jax.Array], drop: Drop
) -> jax.Array:
    if config.pre_norm:
        return x + drop(function(layer_norm(p, norm, x)))
    return layer_norm(p, norm, x + drop(function(x)))


def _feed_forward(p: Parameters, name: str, config: ActConfig, drop: Drop) -> Callable[[jax.Array], jax.Array]:
    def function(x: jax.Array) -> jax.Array:
        hidden = linear(p, f"{name}.linear1", x)
        hidden = (
            jax.nn.relu(hidden) if config.feedforward_activation == "relu" else jax.nn.gelu(hidden, approximate=False)
        )
        return linear(p, f"{name}.linear2", drop(hidden))

    return function
