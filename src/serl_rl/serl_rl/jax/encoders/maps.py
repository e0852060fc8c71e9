# SPDX-License-Identifier: Apache-2.0
"""Feature maps of many pictures at once, as they are needed to judge an encoder."""

from __future__ import annotations

from functools import partial

import jax
import numpy as np
from numpy.typing import NDArray

from serl_rl.encoders.encoder import Encoder
from serl_rl.jax.encoders.networks import encoder_params, make_encoder

_BLOCK = 64  # pictures at a time, for which one program is compiled


def feature_maps(encoder: Encoder, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Feature maps (N, h, w, c) of RGB pictures (N, H, W, 3), as they are."""
    encode = jax.jit(partial(make_encoder(encoder.kind).apply, encoder_params(encoder)))
    maps = []
    for first in range(0, len(pictures), _BLOCK):
        rows = pictures[first : first + _BLOCK]
        size = min(_BLOCK, len(pictures))
        padding = np.zeros((size - len(rows), *rows.shape[1:]), np.uint8)
        maps.append(np.asarray(encode(np.concatenate([rows, padding])))[: len(rows)])
    return np.concatenate(maps)
