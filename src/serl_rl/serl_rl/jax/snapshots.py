# SPDX-License-Identifier: Apache-2.0
"""The policy that an agent publishes, made of its parameters."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
from flax.traverse_util import flatten_dict

from serl_rl.config import Activation, VisionConfig
from serl_rl.jax.vision import frame_shapes, has_pictures
from serl_rl.policy.acting import Actor
from serl_rl.policy.snapshot import EXPLORING, FrameInput, PolicySnapshot
from serl_rl.spec import TransitionSpec

Params = Any


def make_snapshot(
    spec: TransitionSpec,
    vision: VisionConfig,
    vision_params: Params,
    network: Params,
    activation: Activation,
    actor: Actor,
    **further: Params,
) -> PolicySnapshot:
    """Copy of what acting with networks behind an `ObservationEncoder` needs.

    Args:
        spec: of the transitions.
        vision: of the `ObservationEncoder`.
        vision_params: parameters of the `ObservationEncoder`.
        network: parameters of the actor, a trunk and a head.
        activation: of the hidden layers of all networks.
        actor: what the outputs mean.
        further: parameters of other networks that the actor needs, by name.
    """
    arrays = flatten_dict(jax.device_get(network["params"]), sep="/")
    for name, params in further.items():
        arrays |= flatten_dict({name: jax.device_get(params["params"])}, sep="/")
    frames = None
    if spec.frame_names:
        arrays |= flatten_dict({"vision": jax.device_get(vision_params["params"])}, sep="/")
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


def with_exploring(snapshot: PolicySnapshot, vision_params: Params, network: Params) -> PolicySnapshot:
    """The policy with others of its parameters where its actions explore.

    Args:
        snapshot: of the best actions.
        vision_params: parameters of the `ObservationEncoder` through which an exploring actor looks.
        network: parameters of the actor that explores.
    """
    parts = {"vision": vision_params["params"]} if snapshot.frames else {}
    exploring = flatten_dict({EXPLORING: jax.device_get({**network["params"], **parts})}, sep="/")
    return replace(snapshot, arrays={**snapshot.arrays, **exploring})
