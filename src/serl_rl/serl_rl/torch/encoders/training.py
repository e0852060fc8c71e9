# SPDX-License-Identifier: Apache-2.0
"""The training of encoders on labelled pictures with PyTorch; see `serl_rl.encoders.training.labelled`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import huber_loss

from serl_rl.config import EncoderTrainingConfig, TorchConfig
from serl_rl.encoders.encoder import Encoder
from serl_rl.encoders.training.labelled import HEAD_EMBEDDINGS, HEAD_WIDTH, HUBER_DELTA, LabelledBatch
from serl_rl.torch.computing import random
from serl_rl.torch.computing.device import device_of
from serl_rl.torch.computing.optimizer import adam, cosine_decay, gradients, init_adam
from serl_rl.torch.encoders.networks import encode, encoder_params, named_weights
from serl_rl.torch.encoders.spatial import init_spatial_embeddings, spatial_embeddings
from serl_rl.torch.networks import Params, dense, init_dense, init_layer_norm, layer_norm


def init_label_head(key: torch.Tensor, shape: tuple[int, int, int], labels: int) -> Params:
    """Parameters of `label_head` for feature maps of a shape (h, w, c), drawn with the random key `key`, (2,)."""
    keys = random.split(key, 3)
    params = {
        "embeddings": init_spatial_embeddings(keys[0], shape, HEAD_EMBEDDINGS),
        "Dense_0": init_dense(keys[1], shape[2] * HEAD_EMBEDDINGS, HEAD_WIDTH),
        "LayerNorm_0": init_layer_norm(HEAD_WIDTH, device=key.device),
        "Dense_1": init_dense(keys[2], HEAD_WIDTH, labels),
    }
    return {"params": params}


def label_head(params: Params, features: torch.Tensor) -> torch.Tensor:
    """Labels (B, T) of feature maps (B, h, w, c): learned spatial embeddings, one layer, a linear map."""
    layers = params["params"]
    x = dense(layers["Dense_0"], spatial_embeddings(layers["embeddings"], features))
    return dense(layers["Dense_1"], torch.tanh(layer_norm(layers["LayerNorm_0"], x)))


class LabelFitting:
    """Adam on labelled pictures; see `serl_rl.encoders.training.labelled.LabelFitting`."""

    def __init__(
        self,
        start: Encoder,
        labels: Mapping[str, int],
        feature_shape: tuple[int, int, int],
        config: EncoderTrainingConfig,
        steps: int,
        seed: int,
    ) -> None:
        """Draw heads for features of one shape (h, w, c); see `serl_rl.encoders.training.labelled.MakeLabelFitting`."""
        self._kind, self._rate, self._steps, self._done = start.kind, config.learning_rate, steps, 0
        self._device = device_of(TorchConfig())
        keys = random.split(random.from_seed(seed, self._device), len(labels))
        heads = {
            name: init_label_head(key, feature_shape, size)
            for key, (name, size) in zip(keys, labels.items(), strict=True)
        }
        self.params: Params = {"encoder": encoder_params(start, self._device), "heads": heads}
        self._state = init_adam(self.params)

    def step(self, batch: LabelledBatch) -> torch.Tensor:
        """Train on a minibatch; returns the loss ()."""
        rows = {name: tuple(torch.tensor(part, device=self._device) for part in parts) for name, parts in batch.items()}

        def loss(params: Params) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
            value = _loss(self._kind, params, rows)
            return value, {"loss": value}

        slopes, info = gradients(loss, self.params)
        rate = cosine_decay(self._rate, self._steps, self._done)
        self.params, self._state = adam(self.params, slopes, self._state, rate)
        self._done += 1
        return info["loss"]

    def weights(self) -> dict[str, NDArray[np.float32]]:
        """Those of the encoder."""
        return named_weights(self.params["encoder"])

    @torch.inference_mode()
    def labels(self, encoder: Encoder, camera: str, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Labels (N, T) of pictures (N, H, W, 3)."""
        shown, params = torch.tensor(pictures, device=self._device), encoder_params(encoder, self._device)
        return np.asarray(label_head(self.params["heads"][camera], encode(self._kind, params, shown)).cpu().numpy())


def _loss(kind: str, params: Params, batch: Mapping[str, tuple[torch.Tensor, ...]]) -> torch.Tensor:
    """Mean Huber loss over all labels of all cameras, weighted."""
    totals, counted = [], []
    for name, (pictures, labels, weights) in batch.items():
        found = label_head(params["heads"][name], encode(kind, params["encoder"], pictures))
        totals.append((weights * huber_loss(found, labels, reduction="none", delta=HUBER_DELTA)).sum())
        counted.append(weights.sum())
    return torch.stack(totals).sum() / torch.stack(counted).sum().clamp(min=1.0)
