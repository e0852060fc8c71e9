# SPDX-License-Identifier: Apache-2.0
"""A policy that acts on pictures: JAX encodes them, the rest is `NumpyPolicy`."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from serl_rl.encoders.file import EncoderError
from serl_rl.jax.encoders.encoder import Encoder, make_encoder
from serl_rl.jax.vision import PICTURE_CHANNELS, encode_stack
from serl_rl.policy.network import PolicyArrays
from serl_rl.policy.snapshot import FrameInput, NumpyPolicy, PolicySnapshot
from serl_rl.spec import DataError


class PixelPolicy(NumpyPolicy):
    """A policy for one observation with pictures at a time.

    The first action for each size of pictures compiles the encoder.
    """

    def __init__(self, snapshot: PolicySnapshot, encoder: Encoder | None) -> None:
        """Put the policy together with its own encoder or, if that was frozen, with `encoder`.

        Raises:
            DataError: the parts do not belong together, or the frozen encoder is missing or another one.
        """
        frames = snapshot.frames
        if frames is None or not frames.pictures:
            raise DataError("frames", "pictures", "features" if frames else "none")
        arrays = PolicyArrays(snapshot.arrays)
        encoder = _frozen_encoder(frames, encoder) if frames.encoder else _own_encoder(frames, arrays)
        self._kind, self._params = encoder.kind, jax.device_put(encoder.params)
        self._build(snapshot, arrays, {name: _feature_shape(encoder, frames, name) for name in frames.shapes})

    def _features(self, name: str, frame: NDArray[Any]) -> NDArray[np.float32]:
        return np.asarray(_encode(self._kind, self._params, frame[None]))[0]


@partial(jax.jit, static_argnums=0)  # one program for all the policies of a run
def _encode(kind: str, params: Any, pictures: jax.Array) -> jax.Array:
    return encode_stack(partial(make_encoder(kind).apply, params), pictures)


def _own_encoder(frames: FrameInput, arrays: PolicyArrays) -> Encoder:
    try:
        return Encoder.from_weights(frames.encoder_kind, arrays.take_all("vision/encoder"), "policy")
    except EncoderError as error:
        raise DataError("vision/encoder", "the weights of its kind of encoder", str(error)) from error


def _frozen_encoder(frames: FrameInput, encoder: Encoder | None) -> Encoder:
    if encoder is None or encoder.hash != frames.encoder:
        raise DataError("encoder", f"the encoder {frames.encoder!r}", encoder.hash if encoder else "none")
    return encoder


def _feature_shape(encoder: Encoder, frames: FrameInput, name: str) -> tuple[int, int, int]:
    height, width, channels = frames.shapes[name]
    if channels != PICTURE_CHANNELS * frames.frame_stack:
        raise DataError(f"frames {name}", f"{PICTURE_CHANNELS * frames.frame_stack} channels", str(channels))
    h, w, c = encoder.feature_shape(height, width)
    return h, w, c * frames.frame_stack
