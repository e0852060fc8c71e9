# SPDX-License-Identifier: Apache-2.0
"""Runs the network of an ACT policy on one observation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from serl_rl.foreign.act.config import ENV_STATE, STATE
from serl_rl.foreign.act.directory import ActCheckpoint
from serl_rl.foreign.act.parameters import is_trained
from serl_rl.jax.act.backbone import fold
from serl_rl.jax.act.network import Inputs, predict
from serl_rl.jax.act.transformer import begin_decoding


class ActNetwork:
    """Makes chunks of actions. The first call compiles, some seconds."""

    def __init__(self, checkpoint: ActCheckpoint) -> None:
        """Fold what never changes into the weights."""
        config = checkpoint.config
        norms = checkpoint.normalizations
        layers = jax.jit(lambda p: fold(p, config))(dict(checkpoint.parameters)) if config.cameras else {}
        needed = {
            name: jnp.asarray(values)
            for name, values in checkpoint.parameters.items()
            if is_trained(name) and not name.startswith(("backbone.", "vae_encoder"))
        }

        begun = jax.jit(lambda p: begin_decoding(p, config, 1))(needed)

        def run(parameters: Any, layers: Any, begun: jax.Array, observed: Mapping[str, jax.Array]) -> jax.Array:
            pictures = []
            for name in config.cameras:
                norm = norms[name]
                offset, scale, shift = (
                    np.broadcast_to(part.reshape(-1), (3,)) for part in (norm.offset, norm.scale, norm.shift)
                )
                picture = observed[name].astype(jnp.float32) / 255
                pictures.append(((picture - offset) * scale + shift)[None])
            vectors = {}
            for name in (STATE, ENV_STATE):
                if name in observed:
                    norm = norms[name]
                    vectors[name] = ((observed[name] - norm.offset) * norm.scale + norm.shift)[None]
            inputs = Inputs(pictures, vectors[STATE], vectors.get(ENV_STATE))
            return predict(parameters, layers, config, inputs, begun=begun)[0]

        self._names = (*config.cameras, STATE, *((ENV_STATE,) if config.env_state_size is not None else ()))
        self._run, self._fixed = jax.jit(run), (needed, layers, begun)

    def __call__(self, observed: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """The normalised chunk (C, A) for pictures (H, W, 3), uint8, and states (n,), by the features' names."""
        return np.asarray(self._run(*self._fixed, {name: observed[name] for name in self._names}))
