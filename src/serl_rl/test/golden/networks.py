# SPDX-License-Identifier: Apache-2.0
"""The networks of the agents and Adam, from their papers, on the tape. Parameters go by the names of `Agent.arrays`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from . import tape
from .tape import Value

Params = Mapping[str, Value]
State = dict[str, NDArray]
"""The arrays of an agent by their names, in float64."""

ACTIVATIONS: dict[str, Callable[[Value], Value]] = {"relu": tape.relu, "tanh": tape.tanh}


def below(params: Mapping[str, Value], prefix: str) -> dict[str, Value]:
    """The parameters whose names begin with a prefix, by the rest of their names."""
    return {name.removeprefix(f"{prefix}/"): value for name, value in params.items() if name.startswith(f"{prefix}/")}


def dense(params: Params, name: str, x: Value) -> Value:
    return x @ params[f"{name}/kernel"] + params[f"{name}/bias"]


def layer_norm(params: Params, name: str, x: Value) -> Value:
    """Ba et al., arXiv 1607.06450; 1e-6 is added to the variance."""
    mean = x.mean(1).reshape(-1, 1)
    variance = ((x - mean) ** 2.0).mean(1).reshape(-1, 1)
    return (x - mean) * (variance + 1e-6) ** -0.5 * params[f"{name}/scale"] + params[f"{name}/bias"]


def mlp(params: Params, x: Value, activation: str, normalized: bool) -> Value:
    """Hidden layers: dense, layer normalization, activation; and a linear one."""
    layer = 0
    while f"trunk/dense_{layer}/kernel" in params:
        x = dense(params, f"trunk/dense_{layer}", x)
        if normalized:
            x = layer_norm(params, f"trunk/norm_{layer}", x)
        x = ACTIVATIONS[activation](x)
        layer += 1
    return dense(params, "head", x)


def q_values(params: Params, x: Value, action: Value, activation: str, normalized: bool) -> Value:
    """Values (E, B) of E critics whose parameters are stacked."""
    inputs = tape.concatenate([x, action], 1)
    size = params["head/bias"].shape[0]
    critics = [{name: value[i] for name, value in params.items()} for i in range(size)]
    return tape.stack([mlp(critic, inputs, activation, normalized)[:, 0] for critic in critics])


def adam(state: State, network: str, optimizer: str, slopes: Mapping[str, NDArray], rate: float) -> None:
    """One step of Adam (Kingma and Ba, arXiv 1412.6980, algorithm 1) with its recommended constants, in place.

    The parameters are NETWORK/..., their moments OPTIMIZER/0/mu/... and OPTIMIZER/0/nu/...
    """
    count = f"{optimizer}/0/count"
    state[count] = time = state[count] + 1
    for name, slope in slopes.items():
        path = f"/{name}" if name else ""
        first, second = f"{optimizer}/0/mu{path}", f"{optimizer}/0/nu{path}"
        state[first] = 0.9 * state[first] + 0.1 * slope
        state[second] = 0.999 * state[second] + 0.001 * slope**2
        mean, spread = state[first] / (1.0 - 0.9**time), state[second] / (1.0 - 0.999**time)
        state[f"{network}{path}"] = state[f"{network}{path}"] - rate * mean / (np.sqrt(spread) + 1e-8)
