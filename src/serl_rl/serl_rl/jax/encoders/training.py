# SPDX-License-Identifier: Apache-2.0
"""The training of encoders on labelled pictures with JAX; see `serl_rl.encoders.training.labelled`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import NDArray

from serl_rl.config import EncoderTrainingConfig
from serl_rl.encoders.encoder import Encoder
from serl_rl.encoders.training.labelled import HEAD_EMBEDDINGS, HEAD_WIDTH, HUBER_DELTA, LabelledBatch
from serl_rl.jax.encoders.networks import encoder_params, make_encoder, named_weights


class LabelHead(nn.Module):
    """Labels from a feature map as an agent would see them: learned spatial embeddings, one layer, a linear map."""

    labels: int

    @nn.compact
    def __call__(self, features: jax.Array) -> jax.Array:
        """Labels (B, T) of feature maps (B, h, w, c)."""
        shape = (*features.shape[1:], HEAD_EMBEDDINGS)
        kernel = self.param("embeddings", nn.initializers.lecun_normal(in_axis=(0, 1), out_axis=-1), shape)
        x = jnp.einsum("bhwc,hwce->bce", features, kernel).reshape(len(features), -1)
        x = jnp.tanh(nn.LayerNorm()(nn.Dense(HEAD_WIDTH)(x)))
        return nn.Dense(self.labels)(x)


class LabelFitting:
    """Adam on labelled pictures; see `serl_rl.encoders.training.labelled.LabelFitting`."""

    def __init__(
        self,
        start: Encoder,
        labels: Mapping[str, int],
        feature_shape: tuple[int, int, int],
        config: EncoderTrainingConfig,
        steps: int,
        seed: int,
    ) -> None:
        """Draw heads for features of one shape (h, w, c); see `serl_rl.encoders.training.labelled.MakeLabelFitting`."""
        features, keys = jnp.zeros((1, *feature_shape)), jax.random.split(jax.random.key(seed), len(labels))
        self.params: dict[str, Any] = {
            "encoder": jax.tree.map(jnp.asarray, encoder_params(start)),
            "heads": {
                name: LabelHead(size).init(key, features)
                for key, (name, size) in zip(keys, labels.items(), strict=True)
            },
        }
        optimizer = optax.adam(optax.cosine_decay_schedule(config.learning_rate, steps))
        self._state: Any = optimizer.init(self.params)

        @jax.jit
        def step(params: Any, state: Any, batch: Any) -> tuple[Any, Any, jax.Array]:
            loss, gradient = jax.value_and_grad(lambda params: _loss(start.kind, params, batch))(params)
            change, state = optimizer.update(gradient, state, params)
            return optax.apply_updates(params, change), state, loss

        self._step = step
        self._predict = jax.jit(lambda encoder, head, pictures: _predict(start.kind, encoder, head, pictures))

    def step(self, batch: LabelledBatch) -> jax.Array:
        """Train on a minibatch; returns the loss ()."""
        self.params, self._state, loss = self._step(self.params, self._state, batch)
        return loss

    def weights(self) -> dict[str, NDArray[np.float32]]:
        """Those of the encoder."""
        return named_weights(self.params["encoder"])

    def labels(self, encoder: Encoder, camera: str, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Labels (N, T) of pictures (N, H, W, 3)."""
        return np.asarray(self._predict(encoder_params(encoder), self.params["heads"][camera], pictures))


def _predict(kind: str, encoder: Any, head: Any, pictures: jax.Array) -> jax.Array:
    labels = head["params"]["Dense_1"]["bias"].shape[0]
    return jnp.asarray(LabelHead(labels).apply(head, make_encoder(kind).apply(encoder, pictures)))


def _loss(kind: str, params: Any, batch: Mapping[str, tuple[jax.Array, jax.Array, jax.Array]]) -> jax.Array:
    """Mean Huber loss over all labels of all cameras, weighted."""
    total, weight = jnp.float32(0.0), jnp.float32(0.0)
    for name, (pictures, labels, weights) in batch.items():
        found = _predict(kind, params["encoder"], params["heads"][name], pictures)
        total += jnp.sum(weights * optax.huber_loss(found, labels, delta=HUBER_DELTA))
        weight += jnp.sum(weights)
    return total / jnp.maximum(weight, 1.0)
