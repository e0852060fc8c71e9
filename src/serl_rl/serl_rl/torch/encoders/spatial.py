# SPDX-License-Identifier: Apache-2.0
"""Learned sums over the positions of feature maps."""

from __future__ import annotations

import math

import torch

from serl_rl.torch.computing import random
from serl_rl.torch.networks import CUT_DEVIATION


def init_spatial_embeddings(key: torch.Tensor, shape: tuple[int, int, int], embeddings: int) -> torch.Tensor:
    """A kernel (h, w, c, embeddings) for maps of `shape`, drawn from a normal distribution of variance 1 / (h w c)."""
    return random.truncated_normal(key, (*shape, embeddings)) / (CUT_DEVIATION * math.sqrt(math.prod(shape)))


def spatial_embeddings(kernel: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
    """Weighted sums over the positions (B, c * embeddings) of feature maps (B, h, w, c).

    The weightings are learned, `embeddings` for each channel (Luo et al., SERL, arXiv 2401.16013), and the kernel is
    (h, w, c, embeddings).
    """
    # Both operands as the library's products of small matrices like them: else they are taken one by one.
    by_channel = features.flatten(1, 2).permute(2, 0, 1).contiguous()
    sums = torch.bmm(kernel.flatten(0, 1).permute(1, 2, 0), by_channel.transpose(1, 2))
    return sums.permute(2, 0, 1).flatten(1)
