# SPDX-License-Identifier: Apache-2.0
"""Frozen encoders run once for every frame of a camera, when the frame arrives."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from serl_rl.config import TorchConfig
from serl_rl.encoders.encoder import Encoder
from serl_rl.encoders.frame_views import FrameViews
from serl_rl.torch.computing.device import device_of
from serl_rl.torch.encoders.maps import computed
from serl_rl.torch.encoders.networks import encoder_params


class FrameEncoder(FrameViews):
    """Encodes frames as they are and shifted at random with PyTorch."""

    def __init__(self, encoder: Encoder, views: int = 2, shift: int = 4, seed: int = 0) -> None:
        """Prepare `views` feature maps of each picture.

        Raises:
            ValueError: less than one view, or a negative shift.
        """
        params = encoder_params(encoder, device_of(TorchConfig()))

        def maps(pictures: NDArray[np.uint8]) -> NDArray[np.float16]:
            return computed(encoder.kind, params, pictures).to(torch.float16).cpu().numpy()

        super().__init__(encoder, maps, views, shift, seed)
