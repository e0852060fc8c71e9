# SPDX-License-Identifier: Apache-2.0
"""A training that begins with the weights of another stack: read once, kept in the run's folder, taken by its agent."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Final, TypeVar

from serl_config.atomic_files import write_whole
from serl_config.files import FileError, read_bytes

from serl_rl.agent import Checkpointable
from serl_rl.foreign.initial import InitialWeights
from serl_rl.policy.reference import PolicyReference
from serl_rl.spec import DataError
from serl_rl.storage import tensors

FILE: Final = "initial.safetensors"
"""Name of the file in the folder of a run."""
MAX_BYTES: Final = 2**30

AgentT = TypeVar("AgentT", bound=Checkpointable)

_READERS: Mapping[str, str] = {
    "drqv2": "serl_rl.foreign.robobase.agent:read_initial",
    "flax": "serl_rl.foreign.serl.agent:read_initial",
    "lerobot_sac": "serl_rl.foreign.lerobot_sac.agent:read_initial",
}
"""module:function of each kind, from a path to `InitialWeights`."""


def read_initial(reference: PolicyReference) -> InitialWeights:
    """The weights that a reference names, as an agent of ours begins with them.

    Raises:
        DataError: it is of another kind, damaged, or of an architecture that none of our agents has.
    """
    if reference.kind not in _READERS:
        kinds = "drqv2:PATH, flax:PATH or lerobot_sac:PATH"
        raise DataError("policy", f"{kinds}, whose weights an agent can begin with", str(reference))
    module, _, function = _READERS[reference.kind].partition(":")
    weights: InitialWeights = getattr(import_module(module), function)(reference.path)
    if (name := tensors.first_unbounded(weights.arrays)) is not None:
        raise DataError(str(weights.source), f"finite numbers in {name}", "infinite ones or NaN")
    return weights


def write_initial(run: Path, weights: InitialWeights) -> None:
    """Keep the weights in the folder of a run, whose learner begins with them. Raises OSError."""
    write_whole(run / FILE, tensors.pack(weights.arrays, {"source": str(weights.source)}))


def with_initial(run: Path, agent: AgentT) -> AgentT:
    """The agent with the weights that the folder of its run holds; as it is where there are none.

    What they do not have is as it was: the state of optimizers, random keys.

    Raises:
        DataError: the file is damaged, or its weights are not those of the agent.
    """
    path = run / FILE
    if not path.exists():
        return agent
    try:
        arrays, metadata = tensors.unpack(read_bytes(path, MAX_BYTES))
        tensors.expect_seal(metadata)
    except FileError as error:
        raise DataError(str(path), "a file that can be read", error.reason) from error
    except DataError as error:
        raise DataError(f"{path}: {error.field}", error.expected, error.found) from error
    own: dict[str, Any] = agent.arrays()
    for name, array in sorted(arrays.items()):
        if name not in own or own[name].shape != array.shape or own[name].dtype != array.dtype:
            found = f"{array.dtype} {array.shape}"
            expected = f"{own[name].dtype} {own[name].shape}" if name in own else "no array of that name in the agent"
            raise DataError(f"{path}: {name}", expected, found)
    return agent.with_arrays({**own, **arrays})
