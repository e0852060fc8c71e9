# SPDX-License-Identifier: Apache-2.0
"""Networks of the agents: LayerNorm MLPs, a tanh-squashed Gaussian policy, an ensemble of critics."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from serl_rl.policy.network import BOTTLENECK_EPSILON

LOG_STD_MIN = -10.0
LOG_STD_MAX = 2.0

_ACTIVATIONS = {"relu": nn.relu, "tanh": nn.tanh, "silu": nn.silu}


class MLP(nn.Module):
    """Hidden layers: dense, layer normalization, activation; dropout only where it is given a key for "dropout"."""

    hidden_sizes: tuple[int, ...]
    activation: str
    layer_norm: bool
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Features (B, width) of an input (B, K)."""
        for index, size in enumerate(self.hidden_sizes):
            x = nn.Dense(size, name=f"dense_{index}")(x)
            if self.layer_norm:
                x = nn.LayerNorm(name=f"norm_{index}")(x)
            x = _ACTIVATIONS[self.activation](x)
            if self.dropout and self.has_rng("dropout"):
                x = nn.Dropout(self.dropout, deterministic=False)(x)
        return x


class Bottleneck(nn.Module):
    """A dense layer, layer normalization and tanh in front of all others."""

    width: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Vectors (B, width) of vectors (B, K)."""
        x = nn.Dense(self.width, name="dense")(x)
        return nn.tanh(nn.LayerNorm(epsilon=BOTTLENECK_EPSILON, name="norm")(x))


class GaussianPolicy(nn.Module):
    """Mean and log standard deviation, (B, A) each, of the Gaussian that `squashed_sample` squashes."""

    hidden_sizes: tuple[int, ...]
    activation: str
    layer_norm: bool
    action_dim: int
    zero_head: bool = False
    """Whether the last layer begins with zeros, so that the first mean is 0 whatever is observed."""
    bottleneck: int = 0
    """Width of the `Bottleneck` of the observation; 0: none."""

    @nn.compact
    def __call__(self, observation: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Mean and log standard deviation for observations (B, K)."""
        if self.bottleneck:
            observation = Bottleneck(self.bottleneck, name="bottleneck")(observation)
        x = MLP(self.hidden_sizes, self.activation, self.layer_norm, name="trunk")(observation)
        first = nn.initializers.zeros if self.zero_head else nn.initializers.lecun_normal()
        mean, log_std = jnp.split(nn.Dense(2 * self.action_dim, kernel_init=first, name="head")(x), 2, axis=-1)
        return mean, jnp.clip(log_std, LOG_STD_MIN, LOG_STD_MAX)


class Critic(nn.Module):
    """Q value (B,) of observation (B, K) and action (B, A)."""

    hidden_sizes: tuple[int, ...]
    activation: str
    layer_norm: bool
    bottleneck: int = 0
    """Width of the `Bottleneck` of the observation; 0: none."""

    @nn.compact
    def __call__(self, observation: jax.Array, action: jax.Array) -> jax.Array:
        """Values (B,) of observations (B, K) and actions (B, A)."""
        if self.bottleneck:
            observation = Bottleneck(self.bottleneck, name="bottleneck")(observation)
        x = jnp.concatenate([observation, action], axis=-1)
        x = MLP(self.hidden_sizes, self.activation, self.layer_norm, name="trunk")(x)
        return nn.Dense(1, name="head")(x).squeeze(-1)


def critic_ensemble(
    size: int, hidden_sizes: tuple[int, ...], activation: str, layer_norm: bool, bottleneck: int = 0
) -> nn.Module:
    """`size` critics with parameters of their own, stacked in axis 0; the result is (size, B)."""
    ensemble = nn.vmap(
        Critic, variable_axes={"params": 0}, split_rngs={"params": True}, in_axes=None, out_axes=0, axis_size=size
    )
    return ensemble(hidden_sizes, activation, layer_norm, bottleneck)


def squashed_sample(mean: jax.Array, log_std: jax.Array, noise: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Action tanh(mean + std noise) (B, A) and its log density (B,) (Haarnoja et al., arXiv 1801.01290, appendix C).

    log(1 - tanh(u)^2) is written as 2 (log 2 - u - softplus(-2 u)), which does not overflow.
    """
    raw = mean + jnp.exp(log_std) * noise
    gaussian = -0.5 * (jnp.square(noise) + jnp.log(2.0 * jnp.pi)) - log_std
    squash = 2.0 * (jnp.log(2.0) - raw - nn.softplus(-2.0 * raw))
    return jnp.tanh(raw), jnp.sum(gaussian - squash, axis=-1)
