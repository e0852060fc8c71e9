# SPDX-License-Identifier: Apache-2.0
"""The networks of a reward classifier in PyTorch; see `serl_rl.reward.classifier`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from serl_rl.config import RewardClassifierConfig, TorchConfig, VisionConfig
from serl_rl.encoders.architecture import feature_shape
from serl_rl.encoders.encoder import Encoder
from serl_rl.reward.classifier import StageClassifier, untrained_info
from serl_rl.reward.classifier_file import ClassifierInfo
from serl_rl.reward.data import FrameSource
from serl_rl.torch.computing import random
from serl_rl.torch.computing.device import device_of
from serl_rl.torch.encoders.networks import encode, encoder_params
from serl_rl.torch.networks import Params, dense, init_dense, init_layer_norm, layer_norm
from serl_rl.torch.vision import camera_head, init_camera_head


def initial_head(info: ClassifierInfo, seed: int) -> Params:
    """Random parameters of `stage_head`."""
    key, dense_key, logits_key = random.split(random.from_seed(seed), 3)
    width, vision = info.width, _vision(info)
    params: Params = {
        "dense": init_dense(dense_key, width * len(info.cameras), width),
        "norm": init_layer_norm(width),
        "logits": init_dense(logits_key, width, len(info.source.stages)),
    }
    for index, name in enumerate(info.cameras):
        shape = feature_shape(info.encoder, *info.source.views[name].shape[:2])
        params[f"camera_{name}"] = init_camera_head(random.fold_in(key, index), shape, vision)
    return {"params": params}


def stage_head(
    params: Params,
    features: Mapping[str, torch.Tensor],
    info: ClassifierInfo,
    dropout: tuple[float, torch.Tensor] | None = None,
) -> torch.Tensor:
    """Logits (B, stages) of feature maps (B, h, w, c) of each camera.

    Args:
        params: as of `initial_head`.
        features: of all cameras.
        info: of the classifier.
        dropout: the share of the values that are dropped out, and a random key; None drops none.
    """
    layers, vision = params["params"], _vision(info)
    parts = [camera_head(layers[f"camera_{name}"], features[name], vision) for name in info.cameras]
    x = _dropped(torch.cat(parts, dim=-1), dropout, 0)
    x = torch.relu(layer_norm(layers["norm"], dense(layers["dense"], x)))
    return dense(layers["logits"], _dropped(x, dropout, 1))


def _dropped(x: torch.Tensor, dropout: tuple[float, torch.Tensor] | None, layer: int) -> torch.Tensor:
    if not dropout or not dropout[0]:
        return x
    kept = random.bernoulli(random.fold_in(dropout[1], layer), 1.0 - dropout[0], tuple(x.shape))
    return torch.where(kept, x / (1.0 - dropout[0]), 0.0)


def _vision(info: ClassifierInfo) -> VisionConfig:
    return VisionConfig(embeddings=info.embeddings, width=info.width)


def as_tensors(tree: Mapping[str, Any], device: torch.device) -> Params:
    """Copies of arrays or tensors in dictionaries, on a device."""
    return {
        name: as_tensors(below, device)
        if isinstance(below, Mapping)
        else torch.tensor(np.asarray(below), device=device)
        for name, below in tree.items()
    }


class RewardClassifier(StageClassifier):
    """Judges pictures, with PyTorch."""

    def __init__(self, info: ClassifierInfo, encoder: Encoder, head: Mapping[str, Any]) -> None:
        """Put a classifier together.

        Args:
            info: says what it is for.
            encoder: that all cameras share.
            head: arrays or tensors in dictionaries: the parameters of `stage_head`.
        """
        device = device_of(TorchConfig())
        weights, layers = encoder_params(encoder, device), as_tensors(head, device)

        @torch.inference_mode()
        def compute(pictures: Mapping[str, NDArray[np.uint8]]) -> NDArray[np.float32]:
            shown = {name: torch.tensor(rows, device=device) for name, rows in pictures.items()}
            maps = {name: encode(encoder.kind, weights, rows) for name, rows in shown.items()}
            return np.asarray(stage_head(layers, maps, info).cpu().numpy())

        super().__init__(info, encoder, head, compute)

    @classmethod
    def untrained(
        cls, source: FrameSource, config: RewardClassifierConfig, encoder: Encoder, seed: int = 0
    ) -> RewardClassifier:
        """One that knows nothing yet and calls nothing a success."""
        info = untrained_info(source, config, encoder)
        return cls(info, encoder, initial_head(info, seed))
