# SPDX-License-Identifier: Apache-2.0
"""Trains an ACT network on demonstrated chunks (Zhao et al., arXiv 2304.13705), as LeRobot's trainer does."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import NDArray

from serl_rl.foreign.act.config import ActConfig
from serl_rl.foreign.act.demonstrations import Moments
from serl_rl.foreign.act.parameters import is_of_backbone, is_trained
from serl_rl.jax.act.backbone import fold
from serl_rl.jax.act.network import Inputs, encode_actions, predict
from serl_rl.jax.act.transformer import make_drop, no_drop

Parameters = Mapping[str, Any]

MAX_GRADIENT_NORM = 10.0
"""Norm to which LeRobot's trainer clips the gradients of a batch."""


class ActBatch(NamedTuple):
    """B moments of demonstrations, normalised."""

    inputs: Inputs
    actions: jax.Array
    """(B, C, A): from each moment on."""
    padding: jax.Array
    """(B, C): true behind the end of the episode."""


def act_loss(
    trained: Parameters,
    frozen: Parameters,
    config: ActConfig,
    batch: ActBatch,
    noise: jax.Array,
    dropout_key: jax.Array | None = None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Mean absolute error of the actions, plus the weighted divergence of the latent from a standard normal one.

    Args:
        trained: tensors that are learned.
        frozen: the others.
        config: of the policy.
        batch: of demonstrations.
        noise: (B, L), standard normal, by which the latent is drawn; without a VAE it is not used.
        dropout_key: of dropout; None: there is none.

    Returns:
        The loss, and its parts by the names that LeRobot gives them.
    """
    p = {**trained, **frozen}
    drop = no_drop if dropout_key is None else make_drop(config.dropout, dropout_key)
    latent, parts = None, {}
    if config.use_vae:
        seen = encode_actions(p, config, batch.inputs.state, batch.actions, batch.padding, drop)
        latent = seen.mean + jnp.exp(seen.log_variance / 2) * noise
        divergence = -0.5 * (1 + seen.log_variance - seen.mean**2 - jnp.exp(seen.log_variance))
        parts["kld_loss"] = divergence.sum(-1).mean()
    layers = fold(p, config) if batch.inputs.pictures else {}
    predicted = predict(p, layers, config, batch.inputs, latent, drop)
    # What is behind the end counts in the mean, with an error of zero.
    parts["l1_loss"] = jnp.where(batch.padding[..., None], 0, jnp.abs(predicted - batch.actions)).mean()
    loss = parts["l1_loss"] + (config.kl_weight * parts["kld_loss"] if config.use_vae else 0)
    return loss, parts


class ActTraining:
    """The state of a training: weights, and what AdamW (Loshchilov and Hutter, arXiv 1711.05101) remembers of them."""

    def __init__(self, config: ActConfig, parameters: Mapping[str, NDArray[np.float32]], seed: int) -> None:
        """Begin with these weights.

        Args:
            config: of the policy; its `optimizer_*` are those of the training. A backbone whose rate is 0 stays as it
                is, and costs nothing where batches have its maps.
            parameters: tensors of the network, by name.
            seed: of dropout and of the latents.
        """
        self.config = config
        learned = [name for name in parameters if is_trained(name) and not (config.frozen and is_of_backbone(name))]
        self.trained = {name: jnp.asarray(parameters[name]) for name in learned}
        self.frozen = {name: jnp.asarray(values) for name, values in parameters.items() if name not in self.trained}
        self._key = jax.random.key(seed)
        self._optimizer = _optimizer(config)
        self._memory = self._optimizer.init(self.trained)
        self._step = jax.jit(partial(_step, self._optimizer, config), donate_argnums=(0, 1))

    def update(self, batch: ActBatch) -> dict[str, float]:
        """Train on one batch; returns the loss and its parts."""
        self._key, key = jax.random.split(self._key)
        self.trained, self._memory, found = self._step(self.trained, self._memory, self.frozen, batch, key)
        return {name: float(value) for name, value in found.items()}

    def learn(self, moments: Moments) -> dict[str, float]:
        """Train on moments of demonstrations; returns the loss and its parts."""
        pictures, maps = ([jnp.asarray(rows) for rows in each] for each in (moments.pictures, moments.maps))
        inputs = Inputs(pictures, jnp.asarray(moments.state), maps=maps)
        return self.update(ActBatch(inputs, jnp.asarray(moments.actions), jnp.asarray(moments.padding)))

    def parameters(self) -> dict[str, NDArray[np.float32]]:
        """A copy of all tensors of the network, by name, each shaped as `parameter_shapes` says."""
        return {name: np.array(values) for name, values in {**self.trained, **self.frozen}.items()}


def _optimizer(config: ActConfig) -> optax.GradientTransformation:
    def adamw(rate: float) -> optax.GradientTransformation:
        return optax.adamw(rate, weight_decay=config.optimizer_weight_decay)

    def label(parameters: Parameters) -> dict[str, str]:
        return {name: "backbone" if is_of_backbone(name) else "others" for name in parameters}

    rates = {"backbone": adamw(config.optimizer_lr_backbone), "others": adamw(config.optimizer_lr)}
    return optax.chain(optax.clip_by_global_norm(MAX_GRADIENT_NORM), optax.multi_transform(rates, label))


def _step(
    optimizer: optax.GradientTransformation,
    config: ActConfig,
    trained: Parameters,
    memory: Any,
    frozen: Parameters,
    batch: ActBatch,
    key: jax.Array,
) -> tuple[Any, Any, dict[str, jax.Array]]:
    noise_key, dropout_key = jax.random.split(key)
    noise = jax.random.normal(noise_key, (batch.actions.shape[0], config.latent_dim))
    gradient_of = jax.value_and_grad(act_loss, has_aux=True)
    (loss, parts), gradients = gradient_of(trained, frozen, config, batch, noise, dropout_key)
    updates, memory = optimizer.update(gradients, memory, trained)
    return optax.apply_updates(trained, updates), memory, {"loss": loss, **parts}
