# SPDX-License-Identifier: Apache-2.0
"""Trains an encoder on a robot's own pictures, of which nobody said what is to be seen in them.

What is learned is what the robot knows without a person: its own state in each picture, the way that it went from
there, what it did between two pictures, and which two changed copies are of the same picture. For the last one each
picture has to be told from all others of a minibatch (InfoNCE, van den Oord et al., arXiv 1807.03748), so that features
also hold what differs between episodes alike in the robot's state, like where an object lies.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import NDArray

from serl_rl.config import EncoderAdaptingConfig
from serl_rl.encoders.encoder import Encoder
from serl_rl.encoders.probe import targets
from serl_rl.encoders.robot_pictures import PictureEpisode
from serl_rl.jax.encoders.networks import encoder_params, make_encoder, named_weights
from serl_rl.jax.encoders.shift import random_shift
from serl_rl.jax.encoders.training import LabelHead

_CONTRAST_WIDTH = 32


class _Rows:
    """All pairs of consecutive moments, and what is to be learned of them, of about unit size."""

    def __init__(self, episodes: Sequence[PictureEpisode]) -> None:
        self.cameras = tuple(episodes[0].pictures)
        self.pictures = {name: np.concatenate([each.pictures[name] for each in episodes]) for name in self.cameras}
        parts = [targets(episode) for episode in episodes]
        columns = [np.concatenate([part[name] for part in parts]) for name in parts[0]]
        self.labels = _standardized(np.concatenate(columns, axis=1))
        ends = np.cumsum([len(episode) for episode in episodes])
        self.starts = np.setdiff1d(np.arange(ends[-1]), ends - 1)  # all that have a next one
        self.actions = _standardized(np.concatenate([episode.action for episode in episodes]))

    def batch(self, camera: str, drawn: NDArray[np.int64]) -> tuple[NDArray[Any], ...]:
        """Pictures and the next ones (B, H, W, 3), labels (B, T), actions (B, A)."""
        places, pictures = self.starts[drawn], self.pictures[camera]
        return pictures[places], pictures[places + 1], self.labels[places], self.actions[drawn]


def adapt_encoder(
    start: Encoder,
    episodes: Sequence[PictureEpisode],
    config: EncoderAdaptingConfig,
    seed: int,
    report: Callable[[int, float], None] = lambda step, loss: None,
) -> Encoder:
    """The encoder `start`, trained on with pictures of a robot. All its cameras share it.

    Args:
        start: what is adapted.
        episodes: of pictures and the robot's state.
        config: how.
        seed: of the order of the pictures and their changes.
        report: called after each step with its number from 1 and its loss.

    Raises:
        ValueError: there are fewer moments than a minibatch has.
    """
    rows = _Rows(episodes)
    if len(rows.starts) < config.batch_size:
        raise ValueError(f"expected at least {config.batch_size} transitions with pictures, found {len(rows.starts)}")
    sizes = (rows.labels.shape[1], rows.actions.shape[1], _CONTRAST_WIDTH)
    params: dict[str, Any] = {"encoder": jax.tree.map(jnp.asarray, encoder_params(start))}
    for number, name in enumerate(rows.cameras):
        height, width, channels = start.feature_shape(*rows.pictures[name].shape[1:3])
        shapes = ((height, width, channels), (height, width, 2 * channels), (height, width, channels))
        keys = jax.random.split(jax.random.key(seed + number), 3)
        params[f"heads/{name}"] = [
            jax.jit(LabelHead(size).init)(key, jnp.zeros((1, *shape)))
            for size, key, shape in zip(sizes, keys, shapes, strict=True)
        ]
    optimizer = optax.adam(optax.cosine_decay_schedule(config.learning_rate, config.steps))
    state = optimizer.init(params)

    @jax.jit
    def step(params: Any, state: Any, key: jax.Array, batches: Any) -> tuple[Any, Any, jax.Array]:
        def loss(params: Any) -> jax.Array:
            keys = jax.random.split(key, len(rows.cameras))
            encode = _encoder_of(start.kind, params["encoder"])
            losses = [
                _loss(encode, params[f"heads/{name}"], sizes, batches[name], one, config)
                for name, one in zip(rows.cameras, keys, strict=True)
            ]
            return jnp.mean(jnp.stack(losses))

        value, gradient = jax.value_and_grad(loss)(params)
        change, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, change), state, value

    rng, keys = np.random.default_rng(seed), jax.random.split(jax.random.key(seed), config.steps)
    for number in range(config.steps):
        drawn = rng.choice(len(rows.starts), config.batch_size, replace=False)
        batches = {name: rows.batch(name, drawn) for name in rows.cameras}
        params, state, value = step(params, state, keys[number], batches)
        report(number + 1, float(value))
    rounded = {name: values.astype(np.float16) for name, values in named_weights(params["encoder"]).items()}
    return Encoder.from_weights(start.kind, rounded, f"adapted {start.name}")


def _encoder_of(kind: str, params: Any) -> Callable[[jax.Array], jax.Array]:
    module: nn.Module = make_encoder(kind)
    return lambda pictures: jnp.asarray(module.apply(params, pictures))


def _loss(
    encode: Callable[[jax.Array], jax.Array],
    heads: Any,
    sizes: tuple[int, int, int],
    batch: tuple[jax.Array, ...],
    key: jax.Array,
    config: EncoderAdaptingConfig,
) -> jax.Array:
    """Loss of one camera: labels and actions (Huber), and which copies belong together (cross-entropy)."""
    pictures, following, labels, actions = batch
    shown = jnp.concatenate([pictures, pictures, following])
    maps, others, next_maps = jnp.split(encode(changed(key, shown, config)), 3)
    heads_of = [LabelHead(size) for size in sizes]
    found = heads_of[0].apply(heads[0], maps)
    done = heads_of[1].apply(heads[1], jnp.concatenate([others, next_maps], axis=-1))
    named, again = (_unit(jnp.asarray(heads_of[2].apply(heads[2], each))) for each in (maps, others))
    alike = named @ again.T / config.temperature
    pairs = jnp.arange(len(alike))
    contrast = optax.softmax_cross_entropy_with_integer_labels(alike, pairs).mean()
    known = optax.huber_loss(jnp.asarray(found), labels).mean() + optax.huber_loss(jnp.asarray(done), actions).mean()
    return known + config.contrast * contrast


def changed(key: jax.Array, pictures: jax.Array, config: EncoderAdaptingConfig) -> jax.Array:
    """Pictures (B, H, W, 3), float, each moved a little and with a brightness and colours of its own."""
    where, light, colour, noise = jax.random.split(key, 4)
    x = random_shift(where, pictures.astype(jnp.float32), config.shift)
    shape = (len(x), 1, 1, 1)
    x = x + 255.0 * config.brightness * jax.random.uniform(light, shape, minval=-1.0, maxval=1.0)
    gains = jax.random.uniform(colour, (len(x), 1, 1, 3), minval=-1.0, maxval=1.0)
    x = x * (1.0 + config.colour * gains)
    # One field of noise for the whole batch: numbers for each picture would take longer than the encoder.
    x = x + 255.0 * config.noise * jax.random.normal(noise, x.shape[1:])
    return jnp.clip(x, 0.0, 255.0)


def _unit(x: jax.Array) -> jax.Array:
    return x / (jnp.linalg.norm(x, axis=-1, keepdims=True) + 1e-6)


def _standardized(values: NDArray[Any]) -> NDArray[np.float32]:
    """Columns (N, T) of zero mean and unit deviation; those that do not vary are zero."""
    deviation = values.std(axis=0)
    scale = np.divide(1.0, deviation, out=np.zeros_like(deviation), where=deviation > 1e-6)
    return ((values - values.mean(axis=0)) * scale).astype(np.float32)
