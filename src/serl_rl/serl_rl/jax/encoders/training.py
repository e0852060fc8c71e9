# SPDX-License-Identifier: Apache-2.0
"""Trains an encoder: small heads, thrown away afterwards, learn to tell from its features what is in a picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import NDArray

from serl_rl.config import EncoderTrainingConfig
from serl_rl.encoders.encoder import Encoder
from serl_rl.jax.encoders.networks import encoder_params, make_encoder, named_weights

_EMBEDDINGS = 8
_WIDTH = 64


class LabelledPictures(Protocol):
    """Pictures of one camera and what is to be seen in them."""

    @property
    def pictures(self) -> NDArray[np.uint8]:
        """(N, H, W, 3)."""

    @property
    def labels(self) -> NDArray[np.float32]:
        """(N, T), of about unit size."""

    @property
    def weights(self) -> NDArray[np.float32]:
        """(N, T) of each label in the loss, from 0."""


class LabelHead(nn.Module):
    """Labels from a feature map as an agent would see them: learned spatial embeddings, one layer, a linear map."""

    labels: int

    @nn.compact
    def __call__(self, features: jax.Array) -> jax.Array:
        """Labels (B, T) of feature maps (B, h, w, c)."""
        shape = (*features.shape[1:], _EMBEDDINGS)
        kernel = self.param("embeddings", nn.initializers.lecun_normal(in_axis=(0, 1), out_axis=-1), shape)
        x = jnp.einsum("bhwc,hwce->bce", features, kernel).reshape(len(features), -1)
        x = jnp.tanh(nn.LayerNorm()(nn.Dense(_WIDTH)(x)))
        return nn.Dense(self.labels)(x)


@dataclass(frozen=True, eq=False)
class TrainedEncoder:
    """The result of a training."""

    encoder: Encoder
    heads: Mapping[str, Any]
    """Parameters of a `LabelHead` for each camera."""

    def errors(self, data: Mapping[str, LabelledPictures]) -> dict[str, NDArray[np.float64]]:
        """Mean absolute error (T,) of each label, by camera, over the rows in which it has weight; NaN where none."""
        predict = jax.jit(lambda params, head, pictures: _predict(self.encoder.kind, params, head, pictures))
        params, found = encoder_params(self.encoder), {}
        for name, rows in data.items():
            total, weight = np.zeros(rows.labels.shape[1]), np.zeros(rows.labels.shape[1])
            for start in range(0, len(rows.pictures), 250):
                part = slice(start, start + 250)
                labels = np.asarray(predict(params, self.heads[name], rows.pictures[part]))
                total += (rows.weights[part] * np.abs(labels - rows.labels[part])).sum(axis=0)
                weight += rows.weights[part].sum(axis=0)
            found[name] = np.divide(total, weight, out=np.full_like(total, np.nan), where=weight > 0)
        return found


def train_encoder(
    kind: str,
    data: Mapping[str, LabelledPictures],
    config: EncoderTrainingConfig,
    seed: int,
    report: Callable[[int, float], None] = lambda epoch, loss: None,
) -> TrainedEncoder:
    """Train an encoder that all cameras share.

    Args:
        kind: of encoder.
        data: pictures of each camera, the same number of each, all of one size.
        config: how.
        seed: of the first weights and the order of the pictures.
        report: called after each epoch with its number from 1 and its mean loss.

    Raises:
        ValueError: no pictures, fewer than a minibatch of them, or cameras with different numbers or sizes of pictures.
    """
    shapes = {name: rows.pictures.shape for name, rows in data.items()}
    if len(set(shapes.values())) != 1 or (count := next(iter(shapes.values()))[0]) < config.batch_size:
        raise ValueError(f"expected at least {config.batch_size} pictures of one size of each camera, found {shapes}")
    encoder = Encoder.random(kind, seed)
    features = jnp.zeros((1, *encoder.feature_shape(*next(iter(shapes.values()))[1:3])))
    keys = jax.random.split(jax.random.key(seed), len(data))
    params = {
        "encoder": jax.tree.map(jnp.asarray, encoder_params(encoder)),
        "heads": {
            name: LabelHead(rows.labels.shape[1]).init(key, features)
            for key, (name, rows) in zip(keys, data.items(), strict=True)
        },
    }
    batches = count // config.batch_size
    optimizer = optax.adam(optax.cosine_decay_schedule(config.learning_rate, config.epochs * batches))
    state = optimizer.init(params)

    @jax.jit
    def step(params: Any, state: Any, batch: Any) -> tuple[Any, Any, jax.Array]:
        loss, gradient = jax.value_and_grad(lambda params: _loss(kind, params, batch))(params)
        change, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, change), state, loss

    rng = np.random.default_rng(seed)
    for epoch in range(1, config.epochs + 1):
        losses = []
        for batch in _batches(data, config.batch_size, rng):
            params, state, loss = step(params, state, batch)
            losses.append(loss)
        report(epoch, float(np.mean(jax.device_get(losses))))
    weights = named_weights(params["encoder"])
    rounded = {name: values.astype(np.float16) for name, values in weights.items()}  # as they will be in the file
    trained = Encoder.from_weights(kind, rounded, f"trained {kind} encoder, seed {seed}")
    return TrainedEncoder(trained, jax.device_get(params["heads"]))


def _predict(kind: str, encoder: Any, head: Any, pictures: jax.Array) -> jax.Array:
    labels = head["params"]["Dense_1"]["bias"].shape[0]
    return jnp.asarray(LabelHead(labels).apply(head, make_encoder(kind).apply(encoder, pictures)))


def _loss(kind: str, params: Any, batch: Mapping[str, tuple[jax.Array, jax.Array, jax.Array]]) -> jax.Array:
    """Mean Huber loss over all labels of all cameras, weighted."""
    total, weight = jnp.float32(0.0), jnp.float32(0.0)
    for name, (pictures, labels, weights) in batch.items():
        found = _predict(kind, params["encoder"], params["heads"][name], pictures)
        total += jnp.sum(weights * optax.huber_loss(found, labels, delta=0.5))
        weight += jnp.sum(weights)
    return total / jnp.maximum(weight, 1.0)


def _batches(
    data: Mapping[str, LabelledPictures], size: int, rng: np.random.Generator
) -> Iterator[dict[str, tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]]]:
    """Minibatches of every camera, (B, ...) each, in random order; what is left over is left out."""
    count = min(len(rows.pictures) for rows in data.values())
    order = rng.permutation(count)
    for start in range(0, count - size + 1, size):
        drawn = order[start : start + size]
        yield {name: (rows.pictures[drawn], rows.labels[drawn], rows.weights[drawn]) for name, rows in data.items()}
