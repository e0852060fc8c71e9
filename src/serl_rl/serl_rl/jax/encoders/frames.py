# SPDX-License-Identifier: Apache-2.0
"""Frozen encoders run once for every frame of a camera, when the frame arrives."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from serl_rl.encoders.encoder import Encoder
from serl_rl.encoders.frame_views import FrameViews
from serl_rl.jax.encoders.networks import encoder_params, make_encoder


class FrameEncoder(FrameViews):
    """Encodes frames as they are and shifted at random with JAX."""

    def __init__(self, encoder: Encoder, views: int = 2, shift: int = 4, seed: int = 0) -> None:
        """Prepare `views` feature maps of each picture; the first call for each size of pictures compiles.

        Raises:
            ValueError: less than one view, or a negative shift.
        """
        module, params = make_encoder(encoder.kind), jax.device_put(encoder_params(encoder))

        @jax.jit
        def encode(params: Any, pictures: jax.Array) -> jax.Array:
            return jnp.asarray(module.apply(params, pictures), jnp.float16)

        def maps(pictures: NDArray[np.uint8]) -> NDArray[np.float16]:
            return np.asarray(encode(params, pictures))

        super().__init__(encoder, maps, views, shift, seed)
