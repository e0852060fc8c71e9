# SPDX-License-Identifier: Apache-2.0
"""How agents look at observations with pictures: random shifts, encoders, pooling, and one vector in the end.

Pictures and feature maps have the batch axis first and the shapes of `TransitionSpec.drawn_shape`. Parameters have the
names and shapes of those of `serl_rl.jax.vision`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch

from serl_rl.config import VisionConfig
from serl_rl.encoders.architecture import PICTURE_CHANNELS, feature_shape
from serl_rl.spec import TransitionSpec
from serl_rl.torch.computing import random
from serl_rl.torch.encoders.networks import encode
from serl_rl.torch.encoders.shift import random_shift
from serl_rl.torch.encoders.spatial import init_spatial_embeddings, spatial_embeddings
from serl_rl.torch.networks import Params, dense, init_dense, init_layer_norm, layer_norm

Observation = Mapping[str, torch.Tensor]


def spatial_softmax(temperature: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
    """Expected x of all channels, then expected y of all, in [-1, 1], (B, 2 c), of feature maps (B, h, w, c).

    The expectation is under a softmax over positions (Levine et al., arXiv 1504.00702) with a temperature ().
    """
    _, height, width, _ = features.shape
    attention = torch.softmax(features.flatten(1, 2) / temperature, dim=1)
    y, x = (torch.linspace(-1.0, 1.0, size, device=features.device) for size in (height, width))
    positions = torch.stack([x.repeat(height), y.repeat_interleave(width)])
    return torch.einsum("bpc,np->bnc", attention, positions).flatten(1)


def init_camera_head(key: torch.Tensor, shape: tuple[int, int, int], vision: VisionConfig) -> Params:
    """Parameters of `camera_head` for feature maps of `shape`."""
    pooling_key, dense_key = random.split(key)
    params: Params = {}
    inputs = shape[2]
    match vision.pooling:
        case "spatial_embeddings":
            params["pooling"] = {"kernel": init_spatial_embeddings(pooling_key, shape, vision.embeddings)}
            inputs *= vision.embeddings
        case "spatial_softmax":
            params["pooling"] = {"temperature": torch.ones((), device=key.device)}
            inputs *= 2
    norm = init_layer_norm(vision.width, device=key.device)
    return params | {"dense": init_dense(dense_key, inputs, vision.width), "norm": norm}


def camera_head(params: Params, features: torch.Tensor, vision: VisionConfig) -> torch.Tensor:
    """Vectors (B, width) of feature maps (B, h, w, c) of one camera.

    Pooling, a dense layer, layer normalization, tanh.
    """
    x = features.to(torch.float32)
    match vision.pooling:
        case "spatial_embeddings":
            x = spatial_embeddings(params["pooling"]["kernel"], x)
        case "spatial_softmax":
            x = spatial_softmax(params["pooling"]["temperature"], x)
        case "average":
            x = x.mean(dim=(1, 2))
    return torch.tanh(layer_norm(params["norm"], dense(params["dense"], x)))


def encode_stack(encode: Callable[[torch.Tensor], torch.Tensor], pictures: torch.Tensor) -> torch.Tensor:
    """Feature maps (B, h, w, S * c) of S pictures side by side (B, H, W, S * 3), each encoded for itself."""
    batch, height, width, channels = pictures.shape
    stack = channels // PICTURE_CHANNELS
    if stack == 1:
        return encode(pictures)
    single = pictures.reshape(batch, height, width, stack, PICTURE_CHANNELS).movedim(3, 1).flatten(0, 1)
    features = encode(single)
    return features.unflatten(0, (batch, stack)).movedim(1, 3).flatten(3)


def init_vision(
    key: torch.Tensor, spec: TransitionSpec, vision: VisionConfig, trained_encoder: Params | None
) -> Params:
    """Parameters of `encode_observation`, drawn with the random key `key`, (2,); {} without any frames.

    `trained_encoder` are the first parameters of an encoder that is trained.
    """
    params: Params = {}
    for index, name in enumerate(spec.frame_names):
        shape = spec.drawn_shape(name)
        if spec.observation[name].kind == "image":
            height, width, channels = shape
            h, w, c = feature_shape(vision.encoder.kind, height, width)
            shape = (h, w, c * channels // PICTURE_CHANNELS)
        params[f"heads_{name}"] = init_camera_head(random.fold_in(key, index), shape, vision)  # type: ignore[arg-type]
    if trained_encoder is not None:
        params["encoder"] = trained_encoder["params"]
    return {"params": params} if params else {}


def encode_observation(
    spec: TransitionSpec, vision: VisionConfig, params: Params, observation: Observation
) -> torch.Tensor:
    """Vectors (B, D) of observations with leaves (B, ...): each camera has a head of its own, vectors are passed on.

    uint8 pictures go through an encoder that belongs to the parameters and serves all cameras. Anything else is taken
    for feature maps; without any frames this is the concatenation of the vectors.
    """
    parts, weights = [], params.get("params", {})
    for name in spec.frame_names:
        frames = observation[name]
        if _is_picture(frames):
            frames = _encode_pictures({"params": weights["encoder"]}, vision.encoder.kind, frames)
        parts.append(camera_head(weights[f"heads_{name}"], frames, vision))
    parts.extend(observation[name] for name in spec.vector_names)
    return torch.cat(parts, dim=-1)


def shift_pictures(key: torch.Tensor, observation: Observation, vision: VisionConfig) -> dict[str, torch.Tensor]:
    """The observation with randomly shifted pictures (B, H, W, C), every camera by shifts of its own."""
    shifted = dict(observation)
    for index, name in enumerate(sorted(observation)):
        if _is_picture(observation[name]):
            shifted[name] = random_shift(random.fold_in(key, index), observation[name], vision.encoder.shift)
    return shifted


def encode_pictures(encoder: Params, kind: str, observation: Observation) -> dict[str, torch.Tensor]:
    """The observation with feature maps (B, h, w, S * c) in the place of pictures (B, H, W, S * 3).

    `encoder` are the parameters of a frozen encoder of this kind.
    """
    return {
        name: _encode_pictures(encoder, kind, entry) if _is_picture(entry) else entry
        for name, entry in observation.items()
    }


def _encode_pictures(encoder: Params, kind: str, pictures: torch.Tensor) -> torch.Tensor:
    return encode_stack(partial(encode, kind, encoder), pictures)


def _is_picture(rows: torch.Tensor) -> bool:
    """Whether the rows (B, ...) of an observation entry are pictures (B, H, W, C)."""
    return rows.ndim == 4 and rows.dtype == torch.uint8
