# SPDX-License-Identifier: Apache-2.0
"""Features of the pictures that a policy acts on."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from serl_rl.encoders.encoder import Encoder
from serl_rl.jax.encoders.networks import encoder_params, make_encoder
from serl_rl.jax.vision import encode_stack


class PictureEncoder:
    """Encodes one stack of pictures at a time. The first one of each size compiles."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._params = jax.device_put(encoder_params(encoder))

    def feature_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """Shape (h, w, c) of the features of a picture of this size [pixels]."""
        return self._encoder.feature_shape(height, width)

    def __call__(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Features (h, w, S * c) of S pictures side by side (H, W, S * 3)."""
        return np.asarray(_encode(self._encoder.kind, self._params, pictures[None]))[0]


@partial(jax.jit, static_argnums=0)  # one program for all the policies of a run
def _encode(kind: str, params: Any, pictures: jax.Array) -> jax.Array:
    return encode_stack(partial(make_encoder(kind).apply, params), pictures)
