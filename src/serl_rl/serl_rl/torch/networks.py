# SPDX-License-Identifier: Apache-2.0
"""Networks of the agents: LayerNorm MLPs, a tanh-squashed Gaussian policy, an ensemble of critics.

Parameters are dictionaries with the names and shapes that they have in JAX: kernels are (inputs, outputs), and those of
an ensemble have an axis for its members in front. All functions take both: a single network and an ensemble.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import silu, softplus

from serl_rl.policy.network import BOTTLENECK_EPSILON
from serl_rl.torch.computing import random

Params = dict[str, Any]

LOG_STD_MIN = -10.0
LOG_STD_MAX = 2.0

_EPSILON = 1e-6  # of the variance in layer normalization
_ACTIVATIONS = {"relu": torch.relu, "tanh": torch.tanh, "silu": silu}


@dataclass(frozen=True)
class MLP:
    """Hidden layers: dense, layer normalization, activation; and a linear head.

    Where `bottleneck` is not 0, a dense layer of that width, layer normalization and tanh stand before them; what is
    `beside` the input passes by.
    """

    hidden_sizes: tuple[int, ...]
    activation: str
    layer_norm: bool
    outputs: int
    bottleneck: int = 0

    def init(self, key: torch.Tensor, inputs: int, members: int = 0, beside: int = 0) -> Params:
        """New parameters {"trunk", "head"}, and "bottleneck" where there is one.

        Args:
            key: a random one.
            inputs: width of the inputs.
            members: of the ensemble, which is an axis in front; 0: a single network.
            beside: width of what is beside the inputs.
        """
        trunk: Params = {}
        before: Params = {}
        if self.bottleneck:
            own_key = random.fold_in(key, len(self.hidden_sizes) + 1)
            dense_params = init_dense(own_key, inputs, self.bottleneck, members)
            norm = init_layer_norm(self.bottleneck, members, key.device)
            before, inputs = {"bottleneck": {"dense": dense_params, "norm": norm}}, self.bottleneck
        inputs += beside
        keys = random.split(key, len(self.hidden_sizes) + 1)
        for index, (own, size) in enumerate(zip(keys, self.hidden_sizes, strict=False)):
            trunk[f"dense_{index}"] = init_dense(own, inputs, size, members)
            if self.layer_norm:
                trunk[f"norm_{index}"] = init_layer_norm(size, members, key.device)
            inputs = size
        return {**before, "trunk": trunk, "head": init_dense(keys[-1], inputs, self.outputs, members)}

    def __call__(
        self,
        params: Params,
        x: torch.Tensor,
        dropout: tuple[float, torch.Tensor] | None = None,
        *,
        beside: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Outputs (B, outputs) of inputs (B, K), or (E, B, outputs) of an ensemble.

        Args:
            params: as of `init`.
            x: the inputs.
            dropout: the share of what each hidden layer says that is left out, and a random key; None leaves out none.
            beside: (B, J), what passes by the bottleneck; None: nothing.
        """
        if self.bottleneck:
            before = params["bottleneck"]
            x = torch.tanh(layer_norm(before["norm"], dense(before["dense"], x), BOTTLENECK_EPSILON))
        if beside is not None:
            x = torch.cat([x, beside.expand(*x.shape[:-1], beside.shape[-1])], dim=-1)
        trunk = params["trunk"]
        for index in range(len(self.hidden_sizes)):
            x = dense(trunk[f"dense_{index}"], x)
            if self.layer_norm:
                x = layer_norm(trunk[f"norm_{index}"], x)
            x = _ACTIVATIONS[self.activation](x)
            if dropout and dropout[0]:
                kept = random.bernoulli(random.fold_in(dropout[1], index), 1.0 - dropout[0], tuple(x.shape))
                x = torch.where(kept, x / (1.0 - dropout[0]), 0.0)
        return dense(params["head"], x)


def init_dense(key: torch.Tensor, inputs: int, outputs: int, members: int = 0) -> Params:
    """Kernel (inputs, outputs) of variance 1 / inputs (LeCun et al. 1998), cut at two deviations, and a bias of 0."""
    shape = (members,) if members else ()
    kernel = random.truncated_normal(key, (*shape, inputs, outputs)) * (math.sqrt(1.0 / inputs) / CUT_DEVIATION)
    return {"kernel": kernel, "bias": torch.zeros((*shape, outputs), device=key.device)}


CUT_DEVIATION = 0.87962566103423978  # of a standard normal that is cut at +-2


def init_layer_norm(size: int, members: int = 0, device: torch.device | None = None) -> Params:
    """Scale 1 and bias 0 of `layer_norm`."""
    shape = (members, size) if members else (size,)
    return {"scale": torch.ones(shape, device=device), "bias": torch.zeros(shape, device=device)}


def dense(params: Params, x: torch.Tensor) -> torch.Tensor:
    """X W + b: (B, outputs) of inputs (B, K), or (E, B, outputs) of an ensemble."""
    kernel, bias = params["kernel"], params["bias"]
    if kernel.ndim == 2:
        return torch.addmm(bias, x, kernel)
    inputs = x.expand(kernel.shape[0], *x.shape) if x.ndim == 2 else x
    return torch.baddbmm(bias[:, None, :], inputs, kernel)


def layer_norm(params: Params, x: torch.Tensor, epsilon: float = _EPSILON) -> torch.Tensor:
    """Mean 0 and variance 1 over the last axis, then scale and bias (Ba et al., arXiv 1607.06450)."""
    scale, bias = params["scale"], params["bias"]
    normalized = torch.nn.functional.layer_norm(x, x.shape[-1:], eps=epsilon)
    if scale.ndim == 2:
        scale, bias = scale[:, None, :], bias[:, None, :]
    return torch.addcmul(bias, normalized, scale)


def gaussian(outputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and log standard deviation, (B, A) each, that the outputs (B, 2 A) of a policy are."""
    mean, log_std = outputs.chunk(2, dim=-1)
    return mean, log_std.clamp(LOG_STD_MIN, LOG_STD_MAX)


def critic_values(network: MLP, params: Params, observation: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
    """Values (E, B) by an ensemble with stacked parameters, of observations (B, K) and actions (B, A)."""
    return network(params, observation, beside=action).squeeze(-1)


def squashed_sample(
    mean: torch.Tensor, log_std: torch.Tensor, noise: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Action tanh(mean + std noise) (B, A) and its log density (B,) (Haarnoja et al., arXiv 1801.01290, appendix C).

    log(1 - tanh(u)^2) is written as 2 (log 2 - u - softplus(-2 u)), which does not overflow.
    """
    raw = mean + torch.exp(log_std) * noise
    density = -0.5 * (noise.square() + math.log(2.0 * math.pi)) - log_std
    squash = 2.0 * (math.log(2.0) - raw - softplus(-2.0 * raw))
    return torch.tanh(raw), (density - squash).sum(dim=-1)
