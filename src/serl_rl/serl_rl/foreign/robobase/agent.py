# SPDX-License-Identifier: Apache-2.0
"""Makes of a DrQ-v2 network of RoboBase what our agent `drqv2` begins with: its settings, and its arrays by name.

Networks of vectors alone fit: a bottleneck, hidden layers without normalization, two critics. Those with pictures have
a tower of convolutions for each camera and a bottleneck of its own for each head, which our agent does not have.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from serl_rl.foreign.errors import ForeignError
from serl_rl.foreign.initial import InitialWeights
from serl_rl.foreign.layers import linear_kernel
from serl_rl.foreign.robobase.files import DrQv2Checkpoint, read_drqv2, setting
from serl_rl.foreign.robobase.network import Architecture, DrQv2Network

CRITICS: Final = 2
NOISE: Final = 0.2
"""Standard deviation of the exploration noise at first, unless the person says another: a policy that can do something
is not to be drowned in noise."""

Arrays = dict[str, NDArray[np.float32]]


def read_initial(path: Path) -> InitialWeights:
    """What our agent `drqv2` begins with, of a snapshot, a folder of them or a LeRobot-style directory.

    Raises:
        ForeignError: there is none that can be read, or it is of an architecture that the agent does not have.
    """
    checkpoint = read_drqv2(path)
    architecture = checkpoint.network.architecture
    _check(checkpoint.source, architecture)
    network: dict[str, Any] = {
        "hidden_sizes": list(architecture.hidden),
        "activation": "relu",
        "layer_norm": False,
        "bottleneck": architecture.bottleneck,
    }
    defaults: dict[str, Any] = {"noise_start": NOISE, "noise_end": 0.1}
    for ours, theirs in (("discount", "replay.gamma"), ("n_step", "replay.nstep")):
        value = setting(checkpoint.settings, theirs)
        if isinstance(value, int | float) and not isinstance(value, bool):
            defaults[ours] = value
    return InitialWeights(
        source=checkpoint.source,
        agent="drqv2",
        network=network,
        defaults=defaults,
        history=architecture.frame_stack,
        state=architecture.state,
        actions=architecture.actions,
        arrays=_arrays(checkpoint),
    )


def _check(source: Path, architecture: Architecture) -> None:
    if architecture.cameras:
        raise ForeignError(
            source,
            "a policy that looks at vectors alone, which the agent drqv2 can go on learning from (one with pictures "
            "acts, and is improved, by --from-policy)",
            f"one that looks at {', '.join(architecture.cameras)}",
        )
    if architecture.critics != CRITICS or architecture.atoms != 1:
        found = f"{architecture.critics} of {architecture.atoms} outputs"
        raise ForeignError(source, f"{CRITICS} critics of one output, as the agent drqv2 has", found)
    if not architecture.hidden:
        raise ForeignError(source, "hidden layers, as the agent drqv2 has", "none")


def _arrays(checkpoint: DrQv2Checkpoint) -> Arrays:
    network = checkpoint.network
    arrays = {f"actor/params/{name}": values for name, values in _head(network, "actor_model").items()}
    for ours, theirs in (("critic", "critic"), ("target_critic", "critic_target")):
        heads = [_head(network, f"{theirs}.qs.{each}") for each in range(CRITICS)]
        arrays |= {f"{ours}/params/{name}": np.stack([head[name] for head in heads]) for name in heads[0]}
    return arrays


def _head(network: DrQv2Network, prefix: str) -> Arrays:
    """The arrays of the actor or of one critic, as ours are named."""
    tensors, architecture = network.tensors, network.architecture
    before = f"{prefix}.input_preprocess_modules.low_dim_obs"
    kernel = linear_kernel(tensors[f"{before}.0.weight"])
    # Theirs have the oldest moment first, ours the newest.
    moments = kernel.reshape(architecture.frame_stack, architecture.state, -1)[::-1]
    arrays = {
        "bottleneck/dense/kernel": np.ascontiguousarray(moments.reshape(kernel.shape)),
        "bottleneck/dense/bias": tensors[f"{before}.0.bias"],
        "bottleneck/norm/scale": tensors[f"{before}.1.weight"],
        "bottleneck/norm/bias": tensors[f"{before}.1.bias"],
    }
    names = {f"trunk/dense_{layer}": f"main_mlp.{3 * layer}" for layer in range(len(architecture.hidden))}
    for ours, theirs in {**names, "head": "out_mlp.0"}.items():
        arrays[f"{ours}/kernel"] = linear_kernel(tensors[f"{prefix}.{theirs}.weight"])
        arrays[f"{ours}/bias"] = tensors[f"{prefix}.{theirs}.bias"]
    return arrays
