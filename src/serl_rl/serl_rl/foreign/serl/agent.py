# SPDX-License-Identifier: Apache-2.0
"""Makes of a SERL checkpoint of states alone what our agent `sac` begins with: its settings, and its arrays by name.

Such networks have hidden layers of layer normalization and tanh, and no encoder. All critics share their last layer
there; here each has a copy of it. The activation is not in a checkpoint: it is that of SERL's `make_sac_agent`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from serl_rl.foreign.errors import ForeignError
from serl_rl.foreign.initial import InitialWeights
from serl_rl.foreign.serl.checkpoint import TARGETS, find_checkpoint, read_parameters
from serl_rl.policy.acting import SquashedGaussian
from serl_rl.policy.network import PolicyArrays
from serl_rl.policy.snapshot import EXPLORING, PolicySnapshot
from serl_rl.spec import DataError

Arrays = dict[str, NDArray[np.float32]]

_ACTOR: Final = "modules_actor"
_CRITIC: Final = "modules_critic"
_STATE: Final = "state"
_ACTORS: Final = ("actor", "acting_average/actor")
"""Where our agent has an actor."""
_SUBSET: Final = 2
"""Critics that SERL draws for each target, where it has more."""


def read_initial(path: Path) -> InitialWeights:
    """What our agent `sac` begins with, of a checkpoint of SERL.

    Raises:
        ForeignError: there is none that can be read, or it is of an architecture that the agent does not have.
    """
    source = find_checkpoint(path)
    parameters = read_parameters(path)
    _check(source, parameters)
    try:
        return _weights(source, parameters, read_parameters(path, TARGETS))
    except DataError as error:
        if isinstance(error, ForeignError):
            raise
        raise ForeignError(source, f"{error.field}: {error.expected}", error.found) from error


def _check(source: Path, parameters: Mapping[str, NDArray[Any]]) -> None:
    for part, what in ((f"{_ACTOR}/encoder/", "an encoder"), ("modules_grasp_critic/", "a grasp critic")):
        if any(name.startswith(part) for name in parameters):
            expected = (
                "a policy of states alone without encoder and grasp critic, which the agent sac can go on learning "
                "from (one with cameras acts, and is improved, by --from-policy)"
            )
            raise ForeignError(source, expected, f"one with {what}")


def _weights(
    source: Path, parameters: Mapping[str, NDArray[Any]], targets: Mapping[str, NDArray[Any]]
) -> InitialWeights:
    arrays = PolicyArrays(parameters)
    actor, hidden, state = take_actor(arrays)
    actions = len(actor["head/bias"]) // 2
    critic, widths = _critics(arrays, state + actions)
    if widths != hidden:
        raise DataError("hidden layers", "the same widths of actor and critics, as the agent sac has", str(widths))
    target, _ = _critics(PolicyArrays(targets), state + actions)
    temperature = np.logaddexp(0.0, np.float64(arrays.take("modules_temperature/lagrange", ())))
    arrays.expect_all_used()
    critics = len(critic["head/bias"])
    named = {f"{owner}/params/{name}": values for owner in _ACTORS for name, values in actor.items()}
    named |= {f"critic/params/{name}": values for name, values in critic.items()}
    named |= {f"target_critic/params/{name}": values for name, values in target.items()}
    named["log_temperature"] = np.asarray(np.log(temperature), np.float32)
    return InitialWeights(
        source=source,
        agent="sac",
        network={"hidden_sizes": hidden, "activation": "tanh", "layer_norm": True, "critics": critics},
        defaults={"critic_subset": _SUBSET} if critics > _SUBSET else {},
        history=1,
        state=state,
        actions=actions,
        arrays=named,
    )


def take_actor(arrays: PolicyArrays) -> tuple[Arrays, list[int], int]:
    """The arrays of an actor of states alone, as ours are named, the widths of its layers, and that of the state.

    Raises:
        DataError: there is no such actor.
    """
    state = arrays.take(f"{_ACTOR}/network/Dense_0/kernel", (None, None)).shape[0]
    trunk, hidden = _trunk(arrays, f"{_ACTOR}/network", (), state)
    mean, mean_bias = arrays.dense(f"{_ACTOR}/Dense_0", hidden[-1])
    deviation, deviation_bias = arrays.dense(f"{_ACTOR}/Dense_1", hidden[-1], len(mean_bias))
    head = {
        "head/kernel": np.concatenate([mean, deviation], axis=1),
        "head/bias": np.concatenate([mean_bias, deviation_bias]),
    }
    return trunk | head, hidden, state


def put_actor(policy: PolicySnapshot) -> Arrays:
    """The parameters of an actor of SERL that acts as a policy of ours does: inverse of `take_actor`.

    Args:
        policy: of which the arrays of the best actions are taken; critics and temperature are not in it.

    Returns:
        float32 arrays by their paths in the parameters of SERL's agent, as "modules_actor/Dense_0/kernel".

    Raises:
        DataError: SERL's `make_sac_agent` makes no such network: it looks at frames or at more than a state, is no
            Gaussian over one action, or has other hidden layers than ones of layer normalization and tanh.
    """
    _check_actor(policy)
    left = {name for name in policy.arrays if not name.startswith(f"{EXPLORING}/")}
    found: Arrays = {}

    def move(ours: str, theirs: str) -> None:
        if ours not in left:
            raise DataError(ours, "layer normalization behind each hidden layer", "none")
        left.remove(ours)
        found[f"{_ACTOR}/{theirs}"] = policy.arrays[ours]

    layer = 0
    while f"trunk/dense_{layer}/kernel" in left:
        for part in ("kernel", "bias"):
            move(f"trunk/dense_{layer}/{part}", f"network/Dense_{layer}/{part}")
        for part in ("scale", "bias"):
            move(f"trunk/norm_{layer}/{part}", f"network/LayerNorm_{layer}/{part}")
        layer += 1
    if not layer:
        raise DataError("trunk", "at least one hidden layer", "none")
    for part in ("kernel", "bias"):
        mean, deviation = np.split(policy.arrays[f"head/{part}"], 2, axis=-1)
        found |= {f"{_ACTOR}/Dense_0/{part}": mean, f"{_ACTOR}/Dense_1/{part}": deviation}
        left.remove(f"head/{part}")
    if left:
        raise DataError("networks", "a trunk and a head", f"{min(left)} as well")
    return found


def _check_actor(policy: PolicySnapshot) -> None:
    if policy.frames is not None:
        raise DataError("vision", "a state alone, as an encoder of SERL's has another shape", "cameras")
    if list(policy.observation) != [_STATE]:
        raise DataError("observation", f"{_STATE} alone", ", ".join(policy.observation))
    if policy.activation != "tanh":
        raise DataError("activation", "tanh", policy.activation)
    actor = policy.actor
    if not isinstance(actor, SquashedGaussian) or actor.chunk != 1:
        found = f"a chunk of {actor.chunk}" if isinstance(actor, SquashedGaussian) else actor.kind
        raise DataError("actor", "a squashed Gaussian over one action, as the agent sac has", found)


def _critics(arrays: PolicyArrays, inputs: int) -> tuple[Arrays, list[int]]:
    """The arrays of the ensemble, as ours are named, and the widths of its layers."""
    prefix = f"{_CRITIC}/network"
    if f"{prefix}/VmapMLP_0/Dense_0/kernel" in arrays:
        prefix = f"{prefix}/VmapMLP_0"
    size = arrays.take(f"{prefix}/Dense_0/kernel", (None, inputs, None)).shape[0]
    trunk, hidden = _trunk(arrays, prefix, (size,), inputs)
    kernel, bias = arrays.dense(f"{_CRITIC}/Dense_0", hidden[-1], 1)
    return trunk | {"head/kernel": np.stack([kernel] * size), "head/bias": np.stack([bias] * size)}, hidden


def _trunk(arrays: PolicyArrays, prefix: str, stacked: tuple[int, ...], inputs: int) -> tuple[Arrays, list[int]]:
    found: Arrays = {}
    hidden: list[int] = []
    while not hidden or f"{prefix}/Dense_{len(hidden)}/kernel" in arrays:
        layer = len(hidden)
        kernel = arrays.take(f"{prefix}/Dense_{layer}/kernel", (*stacked, inputs, None))
        inputs = kernel.shape[-1]
        found[f"trunk/dense_{layer}/kernel"] = kernel
        for ours, theirs in (
            ("dense_{}/bias", "Dense_{}/bias"),
            ("norm_{}/scale", "LayerNorm_{}/scale"),
            ("norm_{}/bias", "LayerNorm_{}/bias"),
        ):
            name = f"{prefix}/{theirs.format(layer)}"
            found[f"trunk/{ours.format(layer)}"] = arrays.take(name, (*stacked, inputs))
        hidden.append(inputs)
    return found, hidden
