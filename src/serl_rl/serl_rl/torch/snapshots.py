# SPDX-License-Identifier: Apache-2.0
"""The policy that an agent publishes, made of its parameters."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from serl_rl.config import Activation, VisionConfig
from serl_rl.policy.acting import Actor
from serl_rl.policy.assembly import assemble, choosing_with, exploring_with
from serl_rl.policy.snapshot import PolicySnapshot
from serl_rl.spec import TransitionSpec
from serl_rl.torch.agent_state import named_arrays
from serl_rl.torch.networks import Params


def make_snapshot(
    spec: TransitionSpec,
    vision: VisionConfig,
    vision_params: Params,
    network: Params,
    activation: Activation,
    actor: Actor,
    **further: Params,
) -> PolicySnapshot:
    """Copy of what acting with networks behind an observation encoder needs.

    Args:
        spec: of the transitions.
        vision: of the observation encoder.
        vision_params: parameters of the observation encoder.
        network: parameters of the actor, a trunk and a head.
        activation: of the hidden layers of all networks.
        actor: what the outputs mean.
        further: parameters of other networks that the actor needs, by name.
    """
    networks = _arrays(network)
    for name, params in further.items():
        networks |= {f"{name}/{path}": array for path, array in _arrays(params).items()}
    return assemble(spec, vision, _arrays(vision_params), networks, activation, actor)


def with_critics(snapshot: PolicySnapshot, ensemble: Params, vision_params: Params) -> PolicySnapshot:
    """The policy with critics that choose between proposals, each below its number, and the eyes of all of them.

    Args:
        snapshot: of what acts.
        ensemble: stacked parameters of the critics.
        vision_params: parameters of the observation encoder through which they look.
    """
    return choosing_with(snapshot, _arrays(vision_params), _arrays({"params": ensemble}))


def with_exploring(snapshot: PolicySnapshot, vision_params: Params, network: Params) -> PolicySnapshot:
    """The policy with others of its parameters where its actions explore.

    Args:
        snapshot: of the best actions.
        vision_params: parameters of the observation encoder through which an exploring actor looks.
        network: parameters of the actor that explores.
    """
    return exploring_with(snapshot, _arrays(vision_params), _arrays(network))


def _arrays(variables: Params) -> dict[str, NDArray[Any]]:
    return named_arrays(variables.get("params", {}))
