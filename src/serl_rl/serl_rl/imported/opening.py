# SPDX-License-Identifier: Apache-2.0
"""Opens what a reference names, as a policy of a task."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

from serl_config.schema import ConfigError, load_yaml

from serl_rl.checkpoint import CheckpointError
from serl_rl.encoders.file import EncoderError
from serl_rl.imported.mapped import MappedPolicy
from serl_rl.imported.mapping import PolicyMapping
from serl_rl.imported.own import check_own, open_own
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


_READ: Mapping[str, str] = {**_FOREIGN, "act": "serl_rl.foreign.act.acting:read_policy"}
"""module:function as in `_FOREIGN`, of an ACT policy without the network, which a backend would run."""


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
    with _told(reference):
        if reference.kind in _FOREIGN:
            return _mapped(reference, spec, mapping, _FOREIGN)
        _refuse_mapping(mapping)
        return open_own(reference.path, spec, find, world)


def check_policy(reference: PolicyReference, spec: TransitionSpec, *, mapping: Path | None = None) -> None:
    """Look, before anything is started, whether a policy can be opened: its files are read, no backend is needed.

    Args:
        reference: what a person named.
        spec: as for `open_policy`.
        mapping: as for `open_policy`.

    Raises:
        PolicyError: it cannot be; one line, which names the reference.
    """
    with _told(reference):
        if reference.kind in _FOREIGN:
            _mapped(reference, spec, mapping, _READ)
        else:
            _refuse_mapping(mapping)
            check_own(reference.path, spec)


def _mapped(
    reference: PolicyReference, spec: TransitionSpec, mapping: Path | None, opening: Mapping[str, str]
) -> MappedPolicy:
    module, _, function = opening[reference.kind].partition(":")
    policy = getattr(import_module(module), function)(reference.path)
    beside = reference.path / MAPPING
    file = mapping or (beside if beside.is_file() else None)
    return MappedPolicy(policy, spec, load_yaml(file, PolicyMapping) if file else PolicyMapping())


def _refuse_mapping(mapping: Path | None) -> None:
    if mapping is not None:
        raise DataError("mapping", "none: a policy of this workspace has the task's own numbers", str(mapping))


@contextmanager
def _told(reference: PolicyReference) -> Iterator[None]:
    """Errors of files as errors of the policy."""
    try:
        yield
    except (DataError, CheckpointError, EncoderError, ConfigError) as error:
        raise PolicyError(f"{reference}: {error}") from error
    except OSError as error:
        raise PolicyError(f"{reference}: expected files that can be read, found {error}") from error
