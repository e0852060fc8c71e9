# SPDX-License-Identifier: Apache-2.0
"""The adapting of encoders to a robot's own pictures with JAX; see `serl_rl.encoders.training.adapting`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import NDArray

from serl_rl.config import EncoderAdaptingConfig
from serl_rl.encoders.encoder import Encoder
from serl_rl.encoders.training.adapting import PairBatch, head_shapes
from serl_rl.jax.encoders.networks import encoder_params, make_encoder, named_weights
from serl_rl.jax.encoders.shift import random_shift
from serl_rl.jax.encoders.training import LabelHead


class AdaptingFitting:
    """Adam on pairs of pictures; see `serl_rl.encoders.training.adapting.AdaptingFitting`."""

    def __init__(
        self,
        start: Encoder,
        cameras: Mapping[str, tuple[int, int]],
        sizes: tuple[int, int],
        config: EncoderAdaptingConfig,
        seed: int,
    ) -> None:
        """Draw heads; see `serl_rl.encoders.training.adapting.MakeAdaptingFitting`."""
        self.params: dict[str, Any] = {"encoder": jax.tree.map(jnp.asarray, encoder_params(start)), "heads": {}}
        for number, (name, size) in enumerate(cameras.items()):
            heads = head_shapes(start, size, *sizes)
            keys = jax.random.split(jax.random.key(seed + number), len(heads))
            self.params["heads"][name] = {
                head: jax.jit(LabelHead(outputs).init)(key, jnp.zeros((1, *shape)))
                for key, (head, (outputs, shape)) in zip(keys, heads.items(), strict=True)
            }
        optimizer = optax.adam(optax.cosine_decay_schedule(config.learning_rate, config.steps))
        self._state: Any = optimizer.init(self.params)
        self._key, self._done = jax.random.key(seed), 0

        @jax.jit
        def step(params: Any, state: Any, key: jax.Array, batch: Any) -> tuple[Any, Any, jax.Array]:
            def loss(params: Any) -> jax.Array:
                encode = _encoder_of(start.kind, params["encoder"])
                losses = [
                    _loss(encode, params["heads"][name], batch[name], one, config)
                    for name, one in zip(cameras, jax.random.split(key, len(cameras)), strict=True)
                ]
                return jnp.mean(jnp.stack(losses))

            value, gradient = jax.value_and_grad(loss)(params)
            change, state = optimizer.update(gradient, state, params)
            return optax.apply_updates(params, change), state, value

        self._step = step

    def step(self, batch: PairBatch) -> jax.Array:
        """Train on a minibatch; returns the loss ()."""
        key, self._done = jax.random.fold_in(self._key, self._done), self._done + 1
        self.params, self._state, loss = self._step(self.params, self._state, key, batch)
        return loss

    def weights(self) -> dict[str, NDArray[np.float32]]:
        """Those of the encoder."""
        return named_weights(self.params["encoder"])


def _encoder_of(kind: str, params: Any) -> Callable[[jax.Array], jax.Array]:
    module: nn.Module = make_encoder(kind)
    return lambda pictures: jnp.asarray(module.apply(params, pictures))


def _loss(
    encode: Callable[[jax.Array], jax.Array],
    heads: Mapping[str, Any],
    batch: tuple[jax.Array, ...],
    key: jax.Array,
    config: EncoderAdaptingConfig,
) -> jax.Array:
    """Loss of one camera: labels and actions (Huber), and which copies belong together (cross-entropy)."""
    pictures, following, labels, actions = batch
    shown = jnp.concatenate([pictures, pictures, following])
    maps, others, next_maps = jnp.split(encode(changed(key, shown, config)), 3)
    found = _told(heads["known"], maps)
    done = _told(heads["done"], jnp.concatenate([others, next_maps], axis=-1))
    named, again = (_unit(_told(heads["named"], each)) for each in (maps, others))
    alike = named @ again.T / config.temperature
    contrast = optax.softmax_cross_entropy_with_integer_labels(alike, jnp.arange(len(alike))).mean()
    known = optax.huber_loss(found, labels).mean() + optax.huber_loss(done, actions).mean()
    return known + config.contrast * contrast


def _told(head: Any, features: jax.Array) -> jax.Array:
    return jnp.asarray(LabelHead(head["params"]["Dense_1"]["bias"].shape[0]).apply(head, features))


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
