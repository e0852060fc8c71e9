# SPDX-License-Identifier: Apache-2.0
"""How agents look at pictures and feature maps, on the tape: random shifts, the small encoder, poolings, heads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray
from serl_rl.config import VisionConfig
from serl_rl.spec import TransitionSpec

from . import tape
from .networks import Params, below, dense, layer_norm
from .reference import Batch, Keys
from .tape import Value


@dataclass(frozen=True)
class Sight:
    """What an agent sees with. `encoder` has the weights of one that is frozen and encodes in every update."""

    spec: TransitionSpec
    vision: VisionConfig = VisionConfig()  # noqa: RUF009
    encoder: Mapping[str, NDArray] | None = None

    def look(self, params: Params, observation: Mapping[str, NDArray]) -> Value:
        """One vector of observations: head after head, then the vectors, each in the order of their names."""
        parts = []
        for name in sorted(self.spec.frame_names):
            frames = Value(observation[name])
            if observation[name].dtype == np.uint8:
                frames = encoded(below(params, "encoder"), frames)
            head = below(params, f"heads_{name}")
            pooled = POOLINGS[self.vision.pooling](head, frames)
            parts.append(tape.tanh(layer_norm(head, "norm", dense(head, "dense", pooled))))
        parts += [Value(observation[name]) for name in sorted(self.spec.vector_names)]
        return tape.concatenate(parts, 1)

    def prepare(self, keys: Keys, batch: Batch) -> Batch:
        """The batch with pictures shifted, each camera's on either side by shifts of their own, and perhaps encoded.

        Nothing is drawn where there are no pictures.
        """
        if not any(rows.dtype == np.uint8 for rows in batch["observation"].values()):
            return batch
        own_keys = dict(zip(sorted(batch), keys.split(len(batch)), strict=True))
        return {name: self._prepared(own_keys[name], entry) for name, entry in batch.items()}

    def _prepared(self, key: jax.Array, entry: Any) -> Any:
        if not isinstance(entry, dict):
            return entry
        result = dict(entry)
        for number, name in enumerate(sorted(entry)):
            if entry[name].dtype == np.uint8:
                result[name] = shifted(jax.random.fold_in(key, number), entry[name], self.vision.encoder.shift)
                if self.encoder is not None:
                    weights = {path: Value(array) for path, array in self.encoder.items()}
                    result[name] = encoded(weights, Value(result[name])).array
        return result


def shifted(key: jax.Array, pictures: NDArray[np.uint8], shift: int) -> NDArray[np.uint8]:
    """Random crops of the pictures, padded with their edges (Kostrikov et al., arXiv 2004.13649)."""
    batch, height, width, _ = pictures.shape
    down, right = np.asarray(jax.random.randint(key, (2, batch, 1), -shift, shift + 1))[..., 0] + shift
    padded = np.pad(pictures, ((0, 0), (shift, shift), (shift, shift), (0, 0)), mode="edge")
    return np.stack([
        rows[y : y + height, x : x + width] for rows, y, x in zip(padded, down, right, strict=True)
    ])  # fmt: skip


def spatial_embeddings(params: Params, features: Value) -> Value:
    """(B, c E) of feature maps (B, h, w, c): for each channel E weighted sums over the positions (SERL)."""
    batch, height, width, channels = features.shape
    kernel = params["pooling/kernel"]
    size = kernel.shape[-1]
    parts = [
        features[..., channel].reshape(batch, height * width) @ kernel[:, :, channel, :].reshape(height * width, size)
        for channel in range(channels)
    ]
    return tape.concatenate(parts, 1)


def spatial_softmax(params: Params, features: Value) -> Value:
    """(B, 2 c) of feature maps: expected x of all channels, then expected y (Levine et al., arXiv 1504.00702)."""
    _, height, width, _ = features.shape
    weights = tape.exp(features / params["pooling/temperature"])
    total = weights.sum((1, 2))
    xs, ys = np.linspace(-1.0, 1.0, width), np.linspace(-1.0, 1.0, height)
    x = (weights * xs[None, None, :, None]).sum((1, 2)) / total
    y = (weights * ys[None, :, None, None]).sum((1, 2)) / total
    return tape.concatenate([x, y], 1)


def average(params: Params, features: Value) -> Value:
    return features.mean((1, 2))


POOLINGS = {"spatial_embeddings": spatial_embeddings, "spatial_softmax": spatial_softmax, "average": average}


def convolution(params: Params, name: str, x: Value, stride: int) -> Value:
    """Feature maps (B, ceil(h / stride), ceil(w / stride), C) of (B, h, w, c), what lies outside being 0."""
    kernel = params[f"{name}/kernel"]
    size, _, channels, outputs = kernel.shape
    batch, height, width, _ = x.shape
    rows, columns = (_windows(length, size, stride) for length in (height, width))
    padded = tape.concatenate([x, Value(np.zeros((batch, 1, width, channels)))], 1)
    padded = tape.concatenate([padded, Value(np.zeros((batch, height + 1, 1, channels)))], 2)
    patches = padded[:, rows[:, None, :, None], columns[None, :, None, :]]
    flat = patches.reshape(batch * len(rows) * len(columns), size * size * channels)
    product = flat @ kernel.reshape(size * size * channels, outputs)
    return product.reshape(batch, len(rows), len(columns), outputs) + params[f"{name}/bias"]


def _windows(length: int, size: int, stride: int) -> NDArray[np.intp]:
    """Places (n, size) that windows see; `length`, one too far, stands for all places outside."""
    count = -(-length // stride)
    surplus = max((count - 1) * stride + size - length, 0)
    places = np.arange(count)[:, None] * stride + np.arange(size) - surplus // 2
    return np.where((places < 0) | (places >= length), length, places)


def small_encoder(params: Params, pictures: Value) -> Value:
    """Feature maps of pictures (B, H, W, 3) with values 0 to 255 by four convolutions, each followed by relu."""
    x = pictures * (2.0 / 255.0) - 1.0
    for index, stride in enumerate((4, 2, 2, 2)):
        x = tape.relu(convolution(params, f"conv_{index}", x, stride))
    return x


def encoded(params: Params, pictures: Value) -> Value:
    """Feature maps (B, h, w, S c) of S pictures that lie side by side (B, H, W, S 3)."""
    starts = range(0, pictures.shape[-1], 3)
    return tape.concatenate([small_encoder(params, pictures[..., start : start + 3]) for start in starts], 3)
