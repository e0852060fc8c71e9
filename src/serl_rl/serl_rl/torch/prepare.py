# SPDX-License-Identifier: Apache-2.0
"""What happens to the pictures of a minibatch before an agent's step sees it."""

from __future__ import annotations

from typing import Any

import torch

from serl_rl.config import VisionConfig
from serl_rl.torch.computing import random
from serl_rl.torch.computing.tree import map_tree
from serl_rl.torch.networks import Params
from serl_rl.torch.vision import encode_pictures, shift_pictures

Batch = dict[str, Any]


@torch.no_grad()
def prepared(
    key: torch.Tensor, batch: Batch, *, vision: VisionConfig, frozen: Params | None = None
) -> tuple[torch.Tensor, Batch]:
    """The next key, and a minibatch whose pictures are shifted at random and perhaps encoded.

    Args:
        key: a random key (2,), that of the agent.
        batch: leaves (B, ...).
        vision: says how far pictures are shifted.
        frozen: parameters of the encoder that encodes them; None leaves them pictures.
    """
    key, *keys = random.split(key, 1 + len(batch))
    result = dict(batch)
    for own_key, (name, entry) in zip(keys, sorted(batch.items()), strict=True):
        if isinstance(entry, dict):
            steps = tuple(batch["valid"].shape) if name == "visited" else ()
            rows = map_tree(lambda leaf: leaf.flatten(0, 1), entry) if steps else entry
            shifted = shift_pictures(own_key, rows, vision)
            seen = shifted if frozen is None else encode_pictures(frozen, vision.encoder.kind, shifted)
            if steps:
                seen = map_tree(lambda leaf, at=steps: leaf.unflatten(0, at), seen)
            result[name] = seen
    return key, result
