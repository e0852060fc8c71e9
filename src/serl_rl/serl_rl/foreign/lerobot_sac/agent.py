# SPDX-License-Identifier: Apache-2.0
"""Makes of a directory of LeRobot's `SACPolicy` of states alone what our agent `sac` begins with.

Actor and critics look through an encoder there: a linear layer, layer normalization and tanh, which is the bottleneck
of our networks. It is one for all where the encoder is shared; here each has a copy of it, which learns for itself.

Its hidden layers add more to the variance than ours: sqrt((v + e) / e) stays where both v and e become a tenth, so
their weights are made smaller, and the network computes the same.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from serl_rl.foreign.errors import ForeignError
from serl_rl.foreign.initial import InitialWeights
from serl_rl.foreign.layers import TORCH_EPSILON
from serl_rl.foreign.lerobot_sac.config import ENVIRONMENT, STATE
from serl_rl.foreign.lerobot_sac.policy import SacPolicy, encoder_prefix
from serl_rl.foreign.tensors import TorchTensors
from serl_rl.policy.network import NORM_EPSILON

Arrays = dict[str, NDArray[np.float32]]

_ENCODERS: Final = {STATE: "state_encoder", ENVIRONMENT: "env_encoder"}
_ACTORS: Final = ("actor", "acting_average/actor")
"""Where our agent has an actor."""
_BIAS: Final = "bottleneck/dense/bias"
_NORMALIZED: Final = ("normalize_inputs", "input_normalization")
_SMALLER: Final = np.sqrt(NORM_EPSILON / TORCH_EPSILON)


def read_initial(path: Path) -> InitialWeights:
    """What our agent `sac` begins with, of a directory that LeRobot's learner wrote.

    Raises:
        ForeignError: there is none that can be read, or it is of an architecture that the agent does not have.
    """
    policy = SacPolicy(path)
    _check(policy)
    ((vector, (state,)),) = policy.inputs.items()
    tensors = TorchTensors(policy.source, policy.raw)
    encoder = f"{encoder_prefix(tensors, 'actor.encoder.')}{_ENCODERS[vector]}"
    seen = _encoder(policy, tensors, encoder, vector, state)
    latent = len(seen[_BIAS])
    trunk, hidden = _trunk(tensors, "actor.network.net", latent)
    mean = tensors.linear("actor.mean_layer", hidden[-1], policy.outputs)
    deviation = tensors.linear("actor.std_layer", hidden[-1], policy.outputs)
    actor = {
        **seen,
        **trunk,
        "head/kernel": np.concatenate([mean.kernel, deviation.kernel], axis=1),
        "head/bias": np.concatenate([mean.bias, deviation.bias]),
    }
    if policy.config.get("shared_encoder") is False:
        encoder = f"{encoder_prefix(tensors, 'critic_ensemble.encoder.')}{_ENCODERS[vector]}"
        seen = _encoder(policy, tensors, encoder, vector, state)
        if (width := len(seen[_BIAS])) != latent:
            raise ForeignError(policy.source, f"an encoder of {latent} for critics, as the actor's", str(width))
    arrays = {f"{owner}/params/{name}": values for owner in _ACTORS for name, values in actor.items()}
    for ours, theirs in (("critic", "critic_ensemble"), ("target_critic", "critic_target")):
        # LeRobot's target critics look through the encoder of the critics.
        members = [
            seen | _critic(tensors, f"{theirs}.critics.{index}", policy.outputs, hidden, latent)
            for index in range(policy.critics)
        ]
        arrays |= {f"{ours}/params/{name}": np.stack([each[name] for each in members]) for name in members[0]}
    arrays["log_temperature"] = tensors.take("log_alpha", (1,))[0]
    return InitialWeights(
        source=policy.source,
        agent="sac",
        network={
            "hidden_sizes": hidden,
            "activation": "silu",
            "layer_norm": True,
            "bottleneck": latent,
            "critics": policy.critics,
        },
        defaults=_defaults(policy),
        history=1,
        state=state,
        actions=policy.outputs,
        arrays=arrays,
    )


def _check(policy: SacPolicy) -> None:
    found = [name for name in policy.inputs if name not in _ENCODERS]
    if len(policy.inputs) - len(found) > 1:
        found.append("two vectors, each with an encoder of its own")
    if policy.config.get("num_discrete_actions") is not None:
        found.append("a discrete critic")
    elif policy.statistics.pair(("unnormalize_outputs",), "action", policy.outputs) is not None:
        found.append("statistics of actions")
    if not policy.critics:
        found.append("no critics")
    if found:
        expected = (
            f"a policy of {STATE} or {ENVIRONMENT} alone, without a discrete critic and statistics of actions, which "
            "the agent sac can go on learning from (one with them acts, and is improved, by --from-policy)"
        )
        raise ForeignError(policy.source, expected, f"one with {', '.join(found)}")


def _defaults(policy: SacPolicy) -> dict[str, Any]:
    """Settings of the directory that belong to the critics' values."""
    config = policy.config
    values = {
        "discount": config.get("discount", 0.99),
        "backup_entropy": config.get("use_backup_entropy", True),
        "critic_subset": config.get("num_subsample_critics") or 0,
    }
    if config.get("target_entropy") is not None:
        values["target_entropy"] = config["target_entropy"]
    return values


def _encoder(policy: SacPolicy, tensors: TorchTensors, prefix: str, vector: str, state: int) -> Arrays:
    """The encoder as a bottleneck, which normalizes its input, too, where the directory has statistics of it."""
    linear = tensors.linear(f"{prefix}.0", state)
    norm = tensors.norm(f"{prefix}.1", len(linear.bias))
    kernel, bias = linear.kernel.astype(np.float64), linear.bias.astype(np.float64)
    if (statistics := policy.statistics.pair(_NORMALIZED, vector, state)) is not None:
        kind, first, second = statistics
        low, high = first.astype(np.float64), second.astype(np.float64)
        scale, shift = (1.0 / (high + 1e-8), low) if kind == "mean" else (2.0 / (high - low + 1e-8), low)
        kernel *= scale[:, None]
        bias -= shift @ kernel + (0.0 if kind == "mean" else linear.kernel.sum(axis=0))
    return {
        "bottleneck/dense/kernel": kernel.astype(np.float32),
        _BIAS: bias.astype(np.float32),
        "bottleneck/norm/scale": norm.scale,
        "bottleneck/norm/bias": norm.bias,
    }


def _critic(tensors: TorchTensors, prefix: str, actions: int, expected: list[int], latent: int) -> Arrays:
    trunk, hidden = _trunk(tensors, f"{prefix}.net.net", latent + actions)
    if hidden != expected:
        found = f"{hidden} of {prefix}"
        raise ForeignError(tensors.source, f"hidden layers of {expected} as the actor's, as the agent sac has", found)
    head = tensors.linear(f"{prefix}.output_layer", hidden[-1], 1)
    return trunk | {"head/kernel": head.kernel, "head/bias": head.bias}


def _trunk(tensors: TorchTensors, prefix: str, inputs: int) -> tuple[Arrays, list[int]]:
    """Arrays of hidden layers as ours are named, and their widths."""
    found: Arrays = {}
    hidden: list[int] = []
    while not hidden or f"{prefix}.{3 * len(hidden)}.weight" in tensors:
        layer = len(hidden)
        linear = tensors.linear(f"{prefix}.{3 * layer}", inputs)
        inputs = len(linear.bias)
        norm = tensors.norm(f"{prefix}.{3 * layer + 1}", inputs)
        found[f"trunk/dense_{layer}/kernel"] = (linear.kernel * _SMALLER).astype(np.float32)
        found[f"trunk/dense_{layer}/bias"] = (linear.bias * _SMALLER).astype(np.float32)
        found[f"trunk/norm_{layer}/scale"], found[f"trunk/norm_{layer}/bias"] = norm.scale, norm.bias
        hidden.append(inputs)
    return found, hidden
