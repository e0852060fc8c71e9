# SPDX-License-Identifier: Apache-2.0
"""The training of reward classifiers with JAX; see `serl_rl.reward.training`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import NDArray

from serl_rl.config import RewardClassifierConfig
from serl_rl.encoders.encoder import Encoder
from serl_rl.jax.encoders.networks import encoder_params, make_encoder, named_weights
from serl_rl.jax.encoders.shift import random_shift
from serl_rl.jax.reward.classifier import RewardClassifier, make_head
from serl_rl.reward.classifier import StageClassifier
from serl_rl.reward.classifier_file import ClassifierInfo
from serl_rl.reward.training import Computation, Rows

Pictures = Mapping[str, jax.Array]


class Fitting:
    """AdamW on what is drawn; see `serl_rl.reward.training.Fitting`."""

    def __init__(self, start: StageClassifier, config: RewardClassifierConfig) -> None:
        self._encoder, trained = start.encoder, not config.frozen
        layers, encode = make_head(start.info, config.dropout), _network(start.encoder.kind)
        params = {"head": start.head} | ({"encoder": encoder_params(start.encoder)} if trained else {})
        schedule = optax.cosine_decay_schedule(config.learning_rate, config.steps)
        optimizer = optax.adamw(schedule, weight_decay=config.weight_decay)

        def loss(params: Any, key: jax.Array, batch: Pictures, targets: jax.Array) -> jax.Array:
            if trained:
                shown = augmented(config, key, batch)
                batch = {name: encode(params["encoder"], x) for name, x in shown.items()}
            logits = layers.apply(params["head"], batch, training=True, rngs={"dropout": key})
            return optax.softmax_cross_entropy_with_integer_labels(logits, targets).mean()

        @partial(jax.jit, donate_argnums=(0, 1))
        def step(params: Any, state: Any, key: jax.Array, batch: Pictures, targets: jax.Array) -> tuple[Any, Any]:
            gradient = jax.grad(loss)(params, key, batch, targets)
            updates, state = optimizer.update(gradient, state, params)
            return optax.apply_updates(params, updates), state

        self.loss, self._step = loss, step
        self.params = jax.tree.map(jnp.array, params)
        self._state = optimizer.init(self.params)

    def step(self, seed: int, batch: Rows, targets: NDArray[np.integer]) -> None:
        """Train on pictures (B, H, W, 3), or features (B, h, w, c), of each camera, and their stages (B,)."""
        self.params, self._state = self._step(self.params, self._state, jax.random.key(seed), batch, targets)

    def result(self) -> tuple[Encoder, Any]:
        """The encoder, and the parameters behind it."""
        params = jax.device_get(self.params)
        if "encoder" not in params:
            return self._encoder, params["head"]
        weights = named_weights(params["encoder"])
        return Encoder.from_weights(self._encoder.kind, weights, "of the classifier"), params["head"]


def _views(
    info: ClassifierInfo, config: RewardClassifierConfig, encoder: Encoder, seed: int
) -> Callable[[Rows], dict[str, NDArray[np.float16]]]:
    network, params, keys = _network(encoder.kind), jax.device_put(encoder_params(encoder)), [jax.random.key(seed)]

    @jax.jit
    def encode(params: Any, key: jax.Array, pictures: Pictures) -> dict[str, jax.Array]:
        views = [pictures, *(augmented(config, k, pictures) for k in jax.random.split(key, config.views)[1:])]
        return {
            name: jnp.stack([network(params, view[name]) for view in views], axis=1).astype(jnp.float16)
            for name in info.cameras
        }

    def of_next(pictures: Rows) -> dict[str, NDArray[np.float16]]:
        keys[0], used = jax.random.split(keys[0])
        return {name: np.asarray(values) for name, values in encode(params, used, pictures).items()}

    return of_next


COMPUTATION = Computation(RewardClassifier.untrained, RewardClassifier, _views, Fitting)
"""What `serl_rl.reward.training.train_classifier` needs of this backend."""


def _network(kind: str) -> Callable[[Any, jax.Array], jax.Array]:
    """Feature maps of an encoder's parameters and pictures."""
    module = make_encoder(kind)
    return lambda params, pictures: jnp.asarray(module.apply(params, pictures))


def augmented(config: RewardClassifierConfig, key: jax.Array, pictures: Pictures) -> dict[str, jax.Array]:
    """Pictures (B, H, W, 3) shifted at random, of other brightness and contrast, and with noise; each on its own."""
    changed = {}
    for name, camera_key in zip(sorted(pictures), jax.random.split(key, len(pictures)), strict=True):
        keys = jax.random.split(camera_key, 4)
        x = random_shift(keys[0], pictures[name].astype(jnp.float32), config.shift)
        shape = (len(x), 1, 1, 1)
        contrast = 1.0 + jax.random.uniform(keys[1], shape, minval=-config.contrast, maxval=config.contrast)
        brightness = 255.0 * jax.random.uniform(keys[2], shape, minval=-config.brightness, maxval=config.brightness)
        x = (x - 127.5) * contrast + 127.5 + brightness
        # One field of noise for the whole batch: numbers for each picture would take longer than the encoder.
        x = x + 255.0 * config.noise * jax.random.normal(keys[3], x.shape[1:])
        changed[name] = jnp.clip(x, 0.0, 255.0)
    return changed
