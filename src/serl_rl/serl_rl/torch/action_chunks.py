# SPDX-License-Identifier: Apache-2.0
"""Chunks of actions, which critics value as one (Q-chunking, Li et al., arXiv 2507.07969).

Minibatches of chunks have `action` (B, H, A), `valid` (B, H), 0 behind the end of what was executed, and `discount`
(B,), gamma to the power of the number of steps; those of single actions have `action` (B, A) and neither of the others.
"""

from __future__ import annotations

import torch

from serl_rl.torch.update import Batch


def valued_action(batch: Batch, next_action: torch.Tensor) -> torch.Tensor:
    """What was executed, as critics take it: (B, H * A), of single actions (B, A).

    Where the episode, or what is stored of it, ends after m < H actions, the value behind these is that of the
    observation behind the m-th. There the policy would begin its next chunk, so the first H - m actions of that one are
    what the m actions go on with.

    Args:
        batch: leaves (B, ...).
        next_action: what the policy does at the next observation, (B, H * A).
    """
    action = batch["action"]
    if action.ndim == 2:
        return action
    valid = batch["valid"] > 0.0
    executed = valid.sum(dim=-1, keepdim=True)
    place = (torch.arange(action.shape[1], device=action.device) - executed).clamp(min=0)
    following = torch.gather(next_action.reshape(action.shape), 1, place[..., None].expand(action.shape))
    return torch.where(valid[..., None], action, following).reshape(action.shape[0], -1)
