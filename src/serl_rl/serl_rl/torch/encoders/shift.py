# SPDX-License-Identifier: Apache-2.0
"""Random shifts of pictures."""

from __future__ import annotations

import torch

from serl_rl.torch.computing import random
from serl_rl.torch.computing.parallel import own_rows


def random_shift(key: torch.Tensor, images: torch.Tensor, shift: int) -> torch.Tensor:
    """Each image (B, H, W, C) moved by its own random -shift to shift pixels along each axis, its edge repeated.

    Random crops of the padded image (Kostrikov et al., DrQ, arXiv 2004.13649).
    """
    batch, height, width, _ = images.shape

    def draw(shape: tuple[int, ...]) -> torch.Tensor:
        return random.randint(key, (2, shape[0], 1), -shift, shift + 1).movedim(1, 0)

    dy, dx = own_rows(draw, (batch, 2, 1)).movedim(0, 1)
    device = images.device
    rows = torch.clamp(torch.arange(height, device=device) + dy, 0, height - 1)
    columns = torch.clamp(torch.arange(width, device=device) + dx, 0, width - 1)
    each = torch.arange(batch, device=device)[:, None, None]
    return images[each, rows[:, :, None], columns[:, None, :]]
