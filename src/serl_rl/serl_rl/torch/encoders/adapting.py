# SPDX-License-Identifier: Apache-2.0
"""The adapting of encoders to a robot's own pictures with PyTorch; see `serl_rl.encoders.training.adapting`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy, huber_loss

from serl_rl.config import EncoderAdaptingConfig, TorchConfig
from serl_rl.encoders.encoder import Encoder
from serl_rl.encoders.training.adapting import PairBatch, head_shapes
from serl_rl.torch.computing import random
from serl_rl.torch.computing.device import device_of
from serl_rl.torch.computing.optimizer import adam, cosine_decay, gradients, init_adam
from serl_rl.torch.encoders.networks import encode, encoder_params, named_weights
from serl_rl.torch.encoders.shift import random_shift
from serl_rl.torch.encoders.training import init_label_head, label_head
from serl_rl.torch.networks import Params


class AdaptingFitting:
    """Adam on pairs of pictures; see `serl_rl.encoders.training.adapting.AdaptingFitting`."""

    def __init__(
        self,
        start: Encoder,
        cameras: Mapping[str, tuple[int, int]],
        sizes: tuple[int, int],
        config: EncoderAdaptingConfig,
        seed: int,
    ) -> None:
        """Draw heads; see `serl_rl.encoders.training.adapting.MakeAdaptingFitting`."""
        self._kind, self._cameras, self._config, self._done = start.kind, tuple(cameras), config, 0
        self._device = device_of(TorchConfig())
        self.params: Params = {"encoder": encoder_params(start, self._device), "heads": {}}
        for number, (name, size) in enumerate(cameras.items()):
            heads = head_shapes(start, size, *sizes)
            keys = random.split(random.from_seed(seed + number, self._device), len(heads))
            self.params["heads"][name] = {
                head: init_label_head(key, shape, outputs)
                for key, (head, (outputs, shape)) in zip(keys, heads.items(), strict=True)
            }
        self._state = init_adam(self.params)
        self._key = random.from_seed(seed, self._device)

    def step(self, batch: PairBatch) -> torch.Tensor:
        """Train on a minibatch; returns the loss ()."""
        config = self._config
        keys = random.split(random.fold_in(self._key, self._done), len(self._cameras))
        rows = {name: tuple(torch.tensor(part, device=self._device) for part in parts) for name, parts in batch.items()}

        def loss(params: Params) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
            encoder = partial(encode, self._kind, params["encoder"])
            losses = [
                _loss(encoder, params["heads"][name], rows[name], key, config)
                for name, key in zip(self._cameras, keys, strict=True)
            ]
            value = torch.stack(losses).mean()
            return value, {"loss": value}

        slopes, info = gradients(loss, self.params)
        rate = cosine_decay(config.learning_rate, config.steps, self._done)
        self.params, self._state = adam(self.params, slopes, self._state, rate)
        self._done += 1
        return info["loss"]

    def weights(self) -> dict[str, NDArray[np.float32]]:
        """Those of the encoder."""
        return named_weights(self.params["encoder"])


def _loss(
    encoder: Callable[[torch.Tensor], torch.Tensor],
    heads: Params,
    batch: tuple[torch.Tensor, ...],
    key: torch.Tensor,
    config: EncoderAdaptingConfig,
) -> torch.Tensor:
    """Loss of one camera: labels and actions (Huber), and which copies belong together (cross-entropy)."""
    pictures, following, labels, actions = batch
    shown = torch.cat([pictures, pictures, following])
    maps, others, next_maps = encoder(changed(key, shown, config)).chunk(3)
    found = label_head(heads["known"], maps)
    done = label_head(heads["done"], torch.cat([others, next_maps], dim=-1))
    named, again = (_unit(label_head(heads["named"], each)) for each in (maps, others))
    alike = named @ again.T / config.temperature
    contrast = cross_entropy(alike, torch.arange(len(alike), device=alike.device))
    return huber_loss(found, labels) + huber_loss(done, actions) + config.contrast * contrast


def changed(key: torch.Tensor, pictures: torch.Tensor, config: EncoderAdaptingConfig) -> torch.Tensor:
    """Pictures (B, H, W, 3), float, each moved a little and with a brightness and colours of its own."""
    where, light, colour, noise = random.split(key, 4)
    x = random_shift(where, pictures, config.shift).to(torch.float32)
    x = x + 255.0 * config.brightness * random.uniform(light, (len(x), 1, 1, 1), -1.0, 1.0)
    x = x * (1.0 + config.colour * random.uniform(colour, (len(x), 1, 1, 3), -1.0, 1.0))
    # One field of noise for the whole batch: numbers for each picture would take longer than the encoder.
    x = x + 255.0 * config.noise * random.normal(noise, tuple(x.shape[1:]))
    return torch.clamp(x, 0.0, 255.0)


def _unit(x: torch.Tensor) -> torch.Tensor:
    return x / (torch.linalg.vector_norm(x, dim=-1, keepdim=True) + 1e-6)
