# SPDX-License-Identifier: Apache-2.0
"""What agents are given to look at, whatever their backend: which frames, of which shapes, behind which encoder."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

from serl_rl.config import VisionConfig
from serl_rl.encoders.architecture import PICTURE_CHANNELS
from serl_rl.encoders.encoder import Encoder
from serl_rl.spec import ArraySpec, DataError, TransitionSpec


def check_vision(spec: TransitionSpec, vision: VisionConfig, encoder: Encoder | None) -> None:
    """Raise DataError unless observations of `spec` are what the configuration expects and an encoder is there."""
    kinds = {name: spec.observation[name].kind for name in spec.frame_names}
    expected = "features" if vision.encoder.caches_features else "image"
    for name, kind in kinds.items():
        if kind != expected:
            entry = spec.observation[name]
            raise DataError(f"observation {name}", expected, f"{kind}: {entry.dtype} {entry.shape}")
        if kind == "image" and spec.observation[name].shape[2] != PICTURE_CHANNELS:
            raise DataError(f"observation {name}", "pictures with 3 channels", str(spec.observation[name].shape))
    if kinds and spec.frame_stack != vision.frame_stack:
        raise DataError("frame_stack", str(vision.frame_stack), str(spec.frame_stack))
    if "image" in kinds.values():
        if encoder is None:
            raise DataError("encoder", "an encoder for the pictures", "none")
        if encoder.kind != vision.encoder.kind:
            raise DataError("encoder", vision.encoder.kind, encoder.kind)


def has_pictures(spec: TransitionSpec) -> bool:
    """Whether observations contain pictures, as against features or nothing but vectors."""
    return any(spec.observation[name].kind == "image" for name in spec.frame_names)


def frame_shapes(spec: TransitionSpec) -> dict[str, tuple[int, int, int]]:
    """Shapes (H, W, S * 3) of pictures and (h, w, S * c) of feature maps, by the name of the entry."""
    return {name: cast(tuple[int, int, int], spec.drawn_shape(name)) for name in spec.frame_names}


def encoded_width(spec: TransitionSpec, vision: VisionConfig) -> int:
    """Length D of what an `ObservationEncoder` makes of an observation."""
    vectors = sum(spec.observation[name].elements for name in spec.vector_names)
    return vectors + vision.width * len(spec.frame_names)


def behind_frozen_encoder(
    spec: TransitionSpec, vision: VisionConfig, encoder: Encoder
) -> tuple[TransitionSpec, VisionConfig]:
    """What an agent is given that learns from the features of a frozen encoder, instead of pictures."""
    features = {}
    for name in spec.frame_names:
        height, width, _ = spec.observation[name].shape
        features[name] = ArraySpec((1, *encoder.feature_shape(height, width)), "float16")
    cached = replace(vision, encoder=replace(vision.encoder, cached=True))
    return replace(spec, observation={**spec.observation, **features}, encoder=encoder.hash), cached


def of_pictures(spec: TransitionSpec, encoder: Encoder) -> dict[str, Any]:
    """What the policy of such an agent says of its frames, as fields of `FrameInput`: they are pictures."""
    return {"shapes": frame_shapes(spec), "pictures": True, "encoder_kind": encoder.kind}
