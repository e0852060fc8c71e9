# SPDX-License-Identifier: Apache-2.0
"""Feature maps of many pictures at once, as they are needed to judge an encoder."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from serl_rl.encoders.encoder import Encoder
from serl_rl.jax.encoders.networks import encoder_params, make_encoder

_BLOCK = 32  # pictures at a time, for which one program is compiled


def feature_maps(encoder: Encoder, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Feature maps (N, h, w, c) of RGB pictures (N, H, W, 3), as they are."""
    params, maps = jax.device_put(encoder_params(encoder)), []
    for first in range(0, len(pictures), _BLOCK):
        rows = pictures[first : first + _BLOCK]
        padding = np.zeros((_BLOCK - len(rows), *rows.shape[1:]), np.uint8)
        maps.append(np.asarray(_encode(encoder.kind, params, np.concatenate([rows, padding])))[: len(rows)])
    return np.concatenate(maps)


@partial(jax.jit, static_argnums=0)
def _encode(kind: str, params: Any, pictures: jax.Array) -> jax.Array:
    return jnp.asarray(make_encoder(kind).apply(params, pictures))
