# SPDX-License-Identifier: Apache-2.0
"""The policy that an agent publishes, made of its parameters as arrays, whatever its backend."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from serl_rl.config import Activation, VisionConfig
from serl_rl.policy.acting import Actor
from serl_rl.policy.snapshot import CRITICS, EXPLORING, FrameInput, PolicySnapshot
from serl_rl.spec import TransitionSpec
from serl_rl.vision_inputs import frame_shapes, has_pictures

Arrays = Mapping[str, NDArray[Any]]

_VISION = "vision"


def assemble(
    spec: TransitionSpec, vision: VisionConfig, eyes: Arrays, network: Arrays, activation: Activation, actor: Actor
) -> PolicySnapshot:
    """The policy of networks behind an observation encoder.

    Args:
        spec: of the transitions.
        vision: of the observation encoder.
        eyes: parameters of the observation encoder, by their paths; not looked at where there are no frames.
        network: parameters of the actor, a trunk and a head, and of other networks that it needs.
        activation: of the hidden layers of all networks.
        actor: what the outputs mean.
    """
    arrays, frames = dict(network), None
    if spec.frame_names:
        arrays |= _below(_VISION, eyes)
        frames = FrameInput(
            shapes=frame_shapes(spec),
            pictures=has_pictures(spec),
            frame_stack=spec.frame_stack,
            pooling=vision.pooling,
            encoder_kind=vision.encoder.kind if has_pictures(spec) else "",
            encoder=spec.encoder,
        )
    widths = {name: spec.observation[name].elements for name in spec.vector_names}
    return PolicySnapshot(arrays, widths, activation, actor, frames, spec.meaning)


def exploring_with(snapshot: PolicySnapshot, eyes: Arrays, network: Arrays) -> PolicySnapshot:
    """The policy with others of its parameters where its actions explore.

    Args:
        snapshot: of the best actions.
        eyes: parameters of the observation encoder through which an exploring actor looks.
        network: parameters of the actor that explores.
    """
    parts = {**network, **(_below(_VISION, eyes) if snapshot.frames else {})}
    return replace(snapshot, arrays={**snapshot.arrays, **_below(EXPLORING, parts)})


def choosing_with(snapshot: PolicySnapshot, eyes: Arrays, ensemble: Arrays) -> PolicySnapshot:
    """The policy with critics that choose between proposals, each below its number, and the eyes of all of them.

    Args:
        snapshot: of what acts.
        eyes: parameters of the observation encoder through which the critics look.
        ensemble: parameters of the critics, stacked in axis 0.
    """
    parts = _below(_VISION, eyes) if snapshot.frames else {}
    for name, stacked in ensemble.items():
        parts |= {f"{number}/{name}": array for number, array in enumerate(stacked)}
    return replace(snapshot, arrays={**snapshot.arrays, **_below(CRITICS, parts)})


def _below(name: str, arrays: Arrays) -> dict[str, NDArray[Any]]:
    return {f"{name}/{path}": array for path, array in arrays.items()}
