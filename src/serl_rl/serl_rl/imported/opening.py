# SPDX-License-Identifier: Apache-2.0
"""Opens what a reference names, as a policy of a task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path

from serl_config.schema import ConfigError, load_yaml

from serl_rl.checkpoint import CheckpointError
from serl_rl.encoders.file import EncoderError
from serl_rl.imported.mapped import MappedPolicy
from serl_rl.imported.mapping import PolicyMapping
from serl_rl.imported.own import open_own
from serl_rl.policy.acting_policy import ActingPolicy
from serl_rl.policy.reference import PolicyReference
from serl_rl.spec import DataError, TransitionSpec

MAPPING = "mapping.yaml"
"""Name of the mapping file in a policy's folder."""

_FOREIGN: Mapping[str, str] = {
    "act": "serl_rl.backends:open_act_policy",
    "drqv2": "serl_rl.foreign.robobase.policy:open_policy",
    "lerobot_sac": "serl_rl.foreign.lerobot_sac.policy:open_policy",
    "flax": "serl_rl.foreign.serl.policy:open_policy",
}
"""module:function of each foreign kind, from a path to a `ForeignPolicy`."""


class PolicyError(ValueError):
    """A policy that was made before cannot be opened, or not for this task."""


def open_policy(
    reference: PolicyReference,
    spec: TransitionSpec,
    find: Callable[[str], Path],
    *,
    mapping: Path | None = None,
    world: str | None = None,
) -> ActingPolicy:
    """The policy of a reference, for a task.

    Args:
        reference: what a person named.
        spec: of the task's observations as its environment gives them, with their meaning.
        find: finds shipped files, as for `load_encoder`.
        mapping: the mapping file; None: that in the policy's folder, or none.
        world: the simulated world that the pictures show; None: real ones.

    Raises:
        PolicyError: one line, which names the reference.
    """
    try:
        if reference.kind not in _FOREIGN:
            if mapping is not None:
                raise DataError("mapping", "none: a policy of this workspace has the task's own numbers", str(mapping))
            return open_own(reference.path, spec, find, world)
        module, _, function = _FOREIGN[reference.kind].partition(":")
        policy = getattr(import_module(module), function)(reference.path)
        beside = reference.path / MAPPING
        file = mapping or (beside if beside.is_file() else None)
        return MappedPolicy(policy, spec, load_yaml(file, PolicyMapping) if file else PolicyMapping())
    except (DataError, CheckpointError, EncoderError, ConfigError) as error:
        raise PolicyError(f"{reference}: {error}") from error
    except OSError as error:
        raise PolicyError(f"{reference}: expected files that can be read, found {error}") from error
