# SPDX-License-Identifier: Apache-2.0
"""Features of the pictures that a policy acts on."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from serl_rl.config import TorchConfig
from serl_rl.encoders.encoder import Encoder
from serl_rl.torch.computing.device import device_of
from serl_rl.torch.encoders.networks import encoder_params
from serl_rl.torch.vision import encode_pictures


class PictureEncoder:
    """Encodes one stack of pictures at a time."""

    def __init__(self, encoder: Encoder) -> None:
        """Copy the weights of an encoder to where PyTorch computes."""
        self._encoder = encoder
        self._device = device_of(TorchConfig())
        self._params = encoder_params(encoder, self._device)

    def feature_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """Shape (h, w, c) of the features of a picture of this size [pixels]."""
        return self._encoder.feature_shape(height, width)

    @torch.inference_mode()
    def __call__(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Features (h, w, S * c) of S pictures side by side (H, W, S * 3)."""
        shown = {"pictures": torch.tensor(pictures[None], device=self._device)}
        return encode_pictures(self._params, self._encoder.kind, shown)["pictures"][0].cpu().numpy()
