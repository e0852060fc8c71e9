# SPDX-License-Identifier: Apache-2.0
"""Feature maps of many pictures at once, as they are needed to judge an encoder and to encode frames that arrive."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from serl_rl.config import TorchConfig
from serl_rl.encoders.encoder import Encoder
from serl_rl.torch.computing.device import device_of
from serl_rl.torch.encoders.networks import encode, encoder_params

_BLOCK = 32  # pictures at a time


def feature_maps(encoder: Encoder, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Feature maps (N, h, w, c) of RGB pictures (N, H, W, 3), as they are."""
    params = encoder_params(encoder, device_of(TorchConfig()))
    blocks = [pictures[first : first + _BLOCK] for first in range(0, len(pictures), _BLOCK)]
    return np.concatenate([computed(encoder.kind, params, block).cpu().numpy() for block in blocks])


@torch.inference_mode()
def computed(kind: str, params: dict[str, object], pictures: NDArray[np.uint8]) -> torch.Tensor:
    """Feature maps float32 (N, h, w, c) of RGB pictures (N, H, W, 3), where PyTorch computes."""
    return encode(kind, params, torch.tensor(pictures, device=device_of(TorchConfig())))
