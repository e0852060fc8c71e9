# SPDX-License-Identifier: Apache-2.0
"""Gradients of losses, Adam, and networks that follow others, of trees of parameters."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

import torch

from serl_rl.torch.computing.parallel import average
from serl_rl.torch.computing.tree import leaves, map_tree, with_leaves

Params = TypeVar("Params")
Info = dict[str, torch.Tensor]

_DECAY = (0.9, 0.999)
_EPSILON = 1e-8


def gradients(loss: Callable[[Params], tuple[torch.Tensor, Info]], params: Params) -> tuple[Params, Info]:
    """Slopes of a loss at parameters, a tree like theirs, and what the loss reports beside its value.

    Where several processes train together the slopes are means over all of them; what is reported is this one's.
    """
    at = [leaf.detach().requires_grad_() for leaf in leaves(params)]
    with torch.enable_grad():
        value, info = loss(with_leaves(params, at))
        slopes = torch.autograd.grad(value, at, allow_unused=True, materialize_grads=True)
    return with_leaves(params, average(slopes)), {name: number.detach() for name, number in info.items()}


def init_adam(params: Any) -> dict[str, Any]:
    """The state of Adam before its first step, with the names that it has in optax."""
    device = leaves(params)[0].device
    first, second = (map_tree(torch.zeros_like, params) for _ in range(2))
    return {"0": {"count": torch.zeros((), dtype=torch.int32, device=device), "mu": first, "nu": second}}


def adam(params: Params, slopes: Params, state: dict[str, Any], learning_rate: float) -> tuple[Params, dict[str, Any]]:
    """Parameters and state after a step of Adam (Kingma and Ba, arXiv 1412.6980, algorithm 1)."""
    moments = state["0"]
    count = moments["count"] + 1
    first = map_tree(lambda old, slope: torch.lerp(old, slope, 1.0 - _DECAY[0]), moments["mu"], slopes)
    second = map_tree(
        lambda old, slope: torch.addcmul(_DECAY[1] * old, slope, slope, value=1.0 - _DECAY[1]), moments["nu"], slopes
    )
    of_first, of_second = (1.0 - decay ** count.to(torch.float32) for decay in _DECAY)
    # lr m' / (sqrt(v') + eps) of the corrected moments m' and v', with the corrections pulled out of the arrays.
    root = torch.sqrt(of_second)
    step, epsilon = learning_rate * root / of_first, _EPSILON * root
    moved = map_tree(
        lambda old, mean, square: old - (mean / (torch.sqrt(square) + epsilon)) * step, params, first, second
    )
    return moved, {"0": {"count": count, "mu": first, "nu": second}}


def follow(target: Params, of: Params, rate: float) -> Params:
    """A tree that has moved by a share of the way to another one."""
    return map_tree(lambda old, new: torch.lerp(old, new, rate), target, of)


def adamw(
    params: Params, slopes: Params, state: dict[str, Any], learning_rate: float, weight_decay: float
) -> tuple[Params, dict[str, Any]]:
    """Parameters and state after a step of Adam with decay of weights (Loshchilov and Hutter, arXiv 1711.05101)."""
    moved, state = adam(params, slopes, state, learning_rate)
    decay = learning_rate * weight_decay
    return map_tree(lambda new, old: new - decay * old, moved, params), state


def cosine_decay(learning_rate: float, steps: int, done: int) -> float:
    """The learning rate behind so many of all steps: half a period of a cosine from its first value to 0."""
    return learning_rate * 0.5 * (1.0 + math.cos(math.pi * min(done / steps, 1.0)))
