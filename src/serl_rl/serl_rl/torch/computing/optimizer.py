# SPDX-License-Identifier: Apache-2.0
"""Gradients of losses, Adam, and networks that follow others, of trees of parameters."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch.fx.experimental.proxy_tensor import get_proxy_mode

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
    """Parameters and state after a step of Adam (Kingma and Ba, arXiv 1412.6980, algorithm 1).

    They are in the tensors that were given, whose values from before are gone.
    """
    moments = state["0"]
    count = moments["count"].add_(1)
    at, slope, first, second = (leaves(tree) for tree in (params, slopes, moments["mu"], moments["nu"]))
    if get_proxy_mode() is None:
        steps = [count.to(torch.float32)] * len(at)
        slope = [each.contiguous() for each in slope]  # the fused kernel goes through memory as it comes
        torch._fused_adam_(
            at, slope, first, second, [], steps,
            lr=learning_rate, beta1=_DECAY[0], beta2=_DECAY[1], weight_decay=0.0, eps=_EPSILON,
            amsgrad=False, maximize=False,
        )  # fmt: skip
        return params, state
    of_first, of_second = (1.0 - decay ** count.to(torch.float32) for decay in _DECAY)
    # lr m' / (sqrt(v') + eps) of the corrected moments m' and v', with the corrections pulled out of the arrays.
    root = torch.sqrt(of_second)
    step, epsilon = learning_rate * root / of_first, _EPSILON * root
    for value, slant, mean, square in zip(at, slope, first, second, strict=True):
        mean.lerp_(slant, 1.0 - _DECAY[0])
        square.mul_(_DECAY[1]).addcmul_(slant, slant, value=1.0 - _DECAY[1])
        value.sub_(mean / (torch.sqrt(square) + epsilon) * step)
    return params, state


def follow(target: Params, of: Params, rate: float) -> Params:
    """A tree that has moved by a share of the way to another one, in the tensors that it was in."""
    torch._foreach_lerp_(leaves(target), leaves(of), rate)
    return target


def adamw(
    params: Params, slopes: Params, state: dict[str, Any], learning_rate: float, weight_decay: float
) -> tuple[Params, dict[str, Any]]:
    """Parameters and state after a step of Adam with decay of weights (Loshchilov and Hutter, arXiv 1711.05101)."""
    torch._foreach_mul_(leaves(params), 1.0 - learning_rate * weight_decay)
    return adam(params, slopes, state, learning_rate)


def cosine_decay(learning_rate: float, steps: int, done: int) -> float:
    """The learning rate behind so many of all steps: half a period of a cosine from its first value to 0."""
    return learning_rate * 0.5 * (1.0 + math.cos(math.pi * min(done / steps, 1.0)))
