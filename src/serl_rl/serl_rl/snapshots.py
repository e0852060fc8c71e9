# SPDX-License-Identifier: Apache-2.0
"""From the parameters of an agent to the policy that it publishes."""

from __future__ import annotations

from typing import Any, cast

import jax
from flax.traverse_util import flatten_dict

from serl_rl.config import Activation, VisionConfig
from serl_rl.networks import LOG_STD_MAX, LOG_STD_MIN
from serl_rl.policy import FrameInput, PolicySnapshot
from serl_rl.spec import TransitionSpec
from serl_rl.vision import has_pictures

Params = Any


def gaussian_snapshot(
    spec: TransitionSpec,
    vision: VisionConfig,
    encoder_hash: str,
    actor: Params,
    vision_params: Params,
    activation: Activation,
) -> PolicySnapshot:
    """Copy of what acting with a `GaussianPolicy` behind an `ObservationEncoder` needs.

    Args:
        spec: of the transitions.
        vision: of the `ObservationEncoder`.
        encoder_hash: of the frozen encoder whose features it takes; empty where there is none.
        actor: parameters of the `GaussianPolicy`.
        vision_params: parameters of the `ObservationEncoder`.
        activation: of the hidden layers of the policy.
    """
    arrays = flatten_dict(jax.device_get(actor["params"]), sep="/")
    frames = None
    if spec.frame_names:
        arrays |= flatten_dict({"vision": jax.device_get(vision_params["params"])}, sep="/")
        frames = FrameInput(
            shapes={name: cast(tuple[int, int, int], spec.drawn_shape(name)) for name in spec.frame_names},
            pictures=has_pictures(spec),
            frame_stack=spec.frame_stack,
            pooling=vision.pooling,
            encoder_kind=vision.encoder.kind if has_pictures(spec) else "",
            encoder=encoder_hash,
        )
    widths = {name: spec.observation[name].elements for name in spec.vector_names}
    return PolicySnapshot(arrays, widths, activation, (LOG_STD_MIN, LOG_STD_MAX), frames)
