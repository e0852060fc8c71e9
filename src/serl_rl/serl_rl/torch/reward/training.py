# SPDX-License-Identifier: Apache-2.0
"""The training of reward classifiers with PyTorch; see `serl_rl.reward.training`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy

from serl_rl.config import RewardClassifierConfig, TorchConfig
from serl_rl.encoders.encoder import Encoder
from serl_rl.reward.classifier import StageClassifier
from serl_rl.reward.classifier_file import ClassifierInfo
from serl_rl.reward.training import Computation, Rows
from serl_rl.torch.computing import random
from serl_rl.torch.computing.device import device_of
from serl_rl.torch.computing.optimizer import adamw, cosine_decay, gradients, init_adam
from serl_rl.torch.computing.tree import map_tree
from serl_rl.torch.encoders.networks import encode, encoder_params, named_weights
from serl_rl.torch.encoders.shift import random_shift
from serl_rl.torch.networks import Params
from serl_rl.torch.reward.classifier import RewardClassifier, as_tensors, stage_head

Pictures = Mapping[str, torch.Tensor]


class Fitting:
    """AdamW on what is drawn; see `serl_rl.reward.training.Fitting`."""

    def __init__(self, start: StageClassifier, config: RewardClassifierConfig) -> None:
        self._start, self._config, self._done = start, config, 0
        self._device = device_of(TorchConfig())
        self.params = {"head": as_tensors(start.head, self._device)}
        if not config.frozen:
            self.params["encoder"] = encoder_params(start.encoder, self._device)
        self._state = init_adam(self.params)

    def loss(self, params: Params, key: torch.Tensor, batch: Pictures, targets: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropy () [nat] of stages (B,), with the random key `key`, (2,), of all that is drawn."""
        config, info = self._config, self._start.info
        if not config.frozen:
            shown = augmented(config, key, batch)
            batch = {name: encode(info.encoder, params["encoder"], x) for name, x in shown.items()}
        return cross_entropy(stage_head(params["head"], batch, info, (config.dropout, key)), targets)

    def step(self, seed: int, batch: Rows, targets: NDArray[np.integer]) -> None:
        """Train on pictures (B, H, W, 3), or features (B, h, w, c), of each camera, and their stages (B,)."""
        config, key = self._config, random.from_seed(seed, self._device)
        rows = {name: torch.tensor(values, device=self._device) for name, values in batch.items()}
        wanted = torch.tensor(targets, device=self._device)
        slopes, _ = gradients(lambda params: (self.loss(params, key, rows, wanted), {}), self.params)
        rate = cosine_decay(config.learning_rate, config.steps, self._done)
        self.params, self._state = adamw(self.params, slopes, self._state, rate, config.weight_decay)
        self._done += 1

    def result(self) -> tuple[Encoder, Any]:
        """The encoder, and the parameters behind it."""
        head = map_tree(lambda leaf: leaf.cpu().clone(), self.params["head"])
        if self._config.frozen:
            return self._start.encoder, head
        weights = named_weights(self.params["encoder"])
        return Encoder.from_weights(self._start.encoder.kind, weights, "of the classifier"), head


def _views(
    info: ClassifierInfo, config: RewardClassifierConfig, encoder: Encoder, seed: int
) -> Callable[[Rows], dict[str, NDArray[np.float16]]]:
    device = device_of(TorchConfig())
    params, keys = encoder_params(encoder, device), [random.from_seed(seed, device)]

    @torch.inference_mode()
    def of_next(pictures: Rows) -> dict[str, NDArray[np.float16]]:
        keys[0], used = random.split(keys[0])
        shown = {name: torch.tensor(rows, device=device) for name, rows in pictures.items()}
        views = [shown, *(augmented(config, own, shown) for own in random.split(used, config.views)[1:])]
        found = {}
        for name in info.cameras:
            maps = torch.stack([encode(encoder.kind, params, view[name]) for view in views], dim=1)
            found[name] = maps.to(torch.float16).cpu().numpy()
        return found

    return of_next


COMPUTATION = Computation(RewardClassifier.untrained, RewardClassifier, _views, Fitting)
"""What `serl_rl.reward.training.train_classifier` needs of this backend."""


def augmented(config: RewardClassifierConfig, key: torch.Tensor, pictures: Pictures) -> dict[str, torch.Tensor]:
    """Pictures (B, H, W, 3) shifted at random, of other brightness and contrast, and with noise; each on its own."""
    changed = {}
    for name, camera_key in zip(sorted(pictures), random.split(key, len(pictures)), strict=True):
        keys = random.split(camera_key, 4)
        x = random_shift(keys[0], pictures[name], config.shift).to(torch.float32)
        shape = (len(x), 1, 1, 1)
        contrast = 1.0 + random.uniform(keys[1], shape, -config.contrast, config.contrast)
        brightness = 255.0 * random.uniform(keys[2], shape, -config.brightness, config.brightness)
        x = (x - 127.5) * contrast + 127.5 + brightness
        # One field of noise for the whole batch: numbers for each picture would take longer than the encoder.
        x = x + 255.0 * config.noise * random.normal(keys[3], tuple(x.shape[1:]))
        changed[name] = torch.clamp(x, 0.0, 255.0)
    return changed
