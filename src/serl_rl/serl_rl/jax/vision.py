# SPDX-License-Identifier: Apache-2.0
"""How agents look at observations with pictures: random shifts, encoders, pooling, and one vector in the end.

Pictures and feature maps have the batch axis first and the shapes of `TransitionSpec.drawn_shape`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from serl_rl.config import VisionConfig
from serl_rl.encoders.architecture import PICTURE_CHANNELS
from serl_rl.jax.encoders.networks import make_encoder
from serl_rl.jax.encoders.shift import random_shift
from serl_rl.spec import TransitionSpec, kind_of

Params = Any
Observation = Mapping[str, jax.Array]


class SpatialEmbeddings(nn.Module):
    """Learned weightings of the positions, `embeddings` for each channel (Luo et al., SERL, arXiv 2401.16013)."""

    embeddings: int

    @nn.compact
    def __call__(self, features: jax.Array) -> jax.Array:
        """Weighted sums over the positions (B, c * embeddings) of feature maps (B, h, w, c)."""
        batch, height, width, channels = features.shape
        shape = (height, width, channels, self.embeddings)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
        return jnp.einsum("bhwc,hwce->bce", features, kernel).reshape(batch, channels * self.embeddings)


class SpatialSoftmax(nn.Module):
    """Expected position of each channel under a softmax over positions (Levine et al., arXiv 1504.00702)."""

    @nn.compact
    def __call__(self, features: jax.Array) -> jax.Array:
        """Expected x of all channels, then expected y of all, in [-1, 1], (B, 2 c), of feature maps (B, h, w, c)."""
        batch, height, width, channels = features.shape
        temperature = self.param("temperature", nn.initializers.ones, ())
        y, x = jnp.meshgrid(jnp.linspace(-1.0, 1.0, height), jnp.linspace(-1.0, 1.0, width), indexing="ij")
        positions = jnp.stack([x.ravel(), y.ravel()])
        attention = jax.nn.softmax(features.reshape(batch, -1, channels) / temperature, axis=1)
        return jnp.einsum("bpc,np->bnc", attention, positions).reshape(batch, 2 * channels)


class CameraHead(nn.Module):
    """What follows the encoder for one camera: pooling, a dense layer, layer normalization, tanh."""

    vision: VisionConfig

    @nn.compact
    def __call__(self, features: jax.Array) -> jax.Array:
        """Vectors (B, width) of feature maps (B, h, w, c)."""
        x = self._pool(features.astype(jnp.float32))
        x = nn.Dense(self.vision.width, name="dense")(x)
        return nn.tanh(nn.LayerNorm(name="norm")(x))

    def _pool(self, features: jax.Array) -> jax.Array:
        match self.vision.pooling:
            case "spatial_embeddings":
                return SpatialEmbeddings(self.vision.embeddings, name="pooling")(features)
            case "spatial_softmax":
                return SpatialSoftmax(name="pooling")(features)
            case "average":
                return features.mean(axis=(1, 2))


class ObservationEncoder(nn.Module):
    """Makes one vector of an observation: each camera has a head of its own, vectors are passed on as they are.

    uint8 pictures go through an encoder that belongs to the parameters and serves all cameras. Anything else is taken
    for feature maps; without any frames this is the concatenation of the vectors and has no parameters.
    """

    spec: TransitionSpec
    vision: VisionConfig

    def setup(self) -> None:  # noqa: D102
        self.encoder = make_encoder(self.vision.encoder.kind)
        self.heads = {name: CameraHead(self.vision) for name in self.spec.frame_names}

    def __call__(self, observation: Observation) -> jax.Array:
        """Vectors (B, D) of observations with leaves (B, ...)."""
        parts = []
        for name, head in self.heads.items():
            frames = observation[name]
            parts.append(head(encode_stack(self.encoder, frames) if _is_picture(frames) else frames))
        parts.extend(observation[name] for name in self.spec.vector_names)
        return jnp.concatenate(parts, axis=-1)


def _is_picture(rows: jax.Array) -> bool:
    """Whether the rows (B, ...) of an observation entry are pictures (B, H, W, C)."""
    return kind_of(rows.shape[1:], rows.dtype) == "image"


def encode_stack(encode: Any, pictures: jax.Array) -> jax.Array:
    """Feature maps (B, h, w, S * c) of S pictures side by side (B, H, W, S * 3), each encoded for itself."""
    batch, height, width, channels = pictures.shape
    stack = channels // PICTURE_CHANNELS
    single = pictures.reshape(batch, height, width, stack, PICTURE_CHANNELS)
    features = encode(jnp.moveaxis(single, 3, 1).reshape(batch * stack, height, width, PICTURE_CHANNELS))
    _, h, w, c = features.shape
    return jnp.moveaxis(features.reshape(batch, stack, h, w, c), 1, 3).reshape(batch, h, w, stack * c)


def init_vision(key: jax.Array, spec: TransitionSpec, vision: VisionConfig, trained_encoder: Params) -> Params:
    """Parameters of an `ObservationEncoder`, drawn with the random key `key`, ().

    `trained_encoder` are the first parameters of an encoder that is trained.
    """
    observation: dict[str, jax.Array] = {}
    for name, entry in spec.observation.items():
        observation[name] = jnp.zeros((1, *spec.drawn_shape(name)), entry.dtype)
    params = ObservationEncoder(spec, vision).init(key, observation)
    if trained_encoder is None:
        return params
    return {"params": params["params"] | {"encoder": trained_encoder["params"]}}


def encode_observation(
    spec: TransitionSpec, vision: VisionConfig, params: Params, observation: Observation
) -> jax.Array:
    """Vectors (B, D) by an `ObservationEncoder` with these parameters."""
    return cast(jax.Array, ObservationEncoder(spec, vision).apply(params, observation))


def shift_pictures(key: jax.Array, observation: Observation, vision: VisionConfig) -> dict[str, jax.Array]:
    """The observation with randomly shifted pictures (B, H, W, C), every camera by shifts of its own."""
    shifted = dict(observation)
    for index, name in enumerate(sorted(observation)):
        if _is_picture(observation[name]):
            own_key = jax.random.fold_in(key, index)
            shifted[name] = random_shift(own_key, observation[name], vision.encoder.shift)
    return shifted


def encode_pictures(encoder: Params, kind: str, observation: Observation) -> dict[str, jax.Array]:
    """The observation with feature maps (B, h, w, S * c) in the place of pictures (B, H, W, S * 3).

    `encoder` are the parameters of a frozen encoder of this kind.
    """
    encode = partial(make_encoder(kind).apply, encoder)
    return {name: encode_stack(encode, entry) if _is_picture(entry) else entry for name, entry in observation.items()}
