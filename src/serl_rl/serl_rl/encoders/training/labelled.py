# SPDX-License-Identifier: Apache-2.0
"""Trains an encoder: small heads, thrown away afterwards, learn to tell from its features what is in a picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol, SupportsFloat

import numpy as np
from numpy.typing import NDArray

from serl_rl.config import EncoderTrainingConfig
from serl_rl.encoders.encoder import Encoder

LabelledBatch = Mapping[str, tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]]
"""Pictures (B, H, W, 3), labels (B, T) and their weights (B, T) of each camera."""

_BLOCK = 250  # pictures that are judged at a time

HUBER_DELTA = 0.5
"""Error of a label from which on the loss grows linearly."""

HEAD_EMBEDDINGS = 8
"""Spatial embeddings of each channel that a head of labels learns."""

HEAD_WIDTH = 64
"""Width of its layer."""


class LabelledPictures(Protocol):
    """Pictures of one camera and what is to be seen in them."""

    @property
    def pictures(self) -> NDArray[np.uint8]:
        """(N, H, W, 3)."""

    @property
    def labels(self) -> NDArray[np.float32]:
        """(N, T), of about unit size."""

    @property
    def weights(self) -> NDArray[np.float32]:
        """(N, T) of each label in the loss, from 0."""


class LabelFitting(Protocol):
    """An encoder on its way, with a head for each camera."""

    def step(self, batch: LabelledBatch) -> SupportsFloat:
        """Train on a minibatch of every camera; returns the loss before, which may still be computed."""

    def weights(self) -> dict[str, NDArray[np.float32]]:
        """Those of the encoder by name, as `Encoder.from_weights` takes them."""

    def labels(self, encoder: Encoder, camera: str, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        """What the head of a camera tells (N, T) from the features of pictures (N, H, W, 3) by an encoder."""


MakeLabelFitting = Callable[
    [Encoder, Mapping[str, int], tuple[int, int, int], EncoderTrainingConfig, int, int], LabelFitting
]
"""Begins to train: an encoder, the numbers of labels of each camera, the shape of a feature map, the settings, how many
steps there will be, and the seed of the heads."""


@dataclass(frozen=True, eq=False)
class TrainedEncoder:
    """The result of a training."""

    encoder: Encoder
    fitting: LabelFitting
    """Whose heads were trained with it."""

    def errors(self, data: Mapping[str, LabelledPictures]) -> dict[str, NDArray[np.float64]]:
        """Mean absolute error (T,) of each label, by camera, over the rows in which it has weight; NaN where none."""
        found = {}
        for name, rows in data.items():
            total, weight = np.zeros(rows.labels.shape[1]), np.zeros(rows.labels.shape[1])
            for start in range(0, len(rows.pictures), _BLOCK):
                part = slice(start, start + _BLOCK)
                labels = self.fitting.labels(self.encoder, name, rows.pictures[part])
                total += (rows.weights[part] * np.abs(labels - rows.labels[part])).sum(axis=0)
                weight += rows.weights[part].sum(axis=0)
            found[name] = np.divide(total, weight, out=np.full_like(total, np.nan), where=weight > 0)
        return found


def train_encoder(
    kind: str,
    data: Mapping[str, LabelledPictures],
    config: EncoderTrainingConfig,
    seed: int,
    make_fitting: MakeLabelFitting,
    report: Callable[[int, float], None] = lambda epoch, loss: None,
) -> TrainedEncoder:
    """Train an encoder that all cameras share.

    Args:
        kind: of encoder.
        data: pictures of each camera, the same number of each, all of one size.
        config: how.
        seed: of the first weights and the order of the pictures.
        make_fitting: of a backend, as `serl_rl.backends.encoder_computation` has it.
        report: called after each epoch with its number from 1 and its mean loss.

    Raises:
        ValueError: no pictures, fewer than a minibatch of them, or cameras with different numbers or sizes of pictures.
    """
    shapes = {name: rows.pictures.shape for name, rows in data.items()}
    if len(set(shapes.values())) != 1 or (count := next(iter(shapes.values()))[0]) < config.batch_size:
        raise ValueError(f"expected at least {config.batch_size} pictures of one size of each camera, found {shapes}")
    encoder = Encoder.random(kind, seed)
    height, width = next(iter(shapes.values()))[1:3]
    sizes = {name: rows.labels.shape[1] for name, rows in data.items()}
    steps = config.epochs * (count // config.batch_size)
    fitting = make_fitting(encoder, sizes, encoder.feature_shape(height, width), config, steps, seed)
    rng = np.random.default_rng(seed)
    for epoch in range(1, config.epochs + 1):
        losses = [fitting.step(batch) for batch in _batches(data, config.batch_size, rng)]
        report(epoch, float(np.mean([float(loss) for loss in losses])))
    # Rounded as they will be in the file.
    rounded = {name: values.astype(np.float16) for name, values in fitting.weights().items()}
    return TrainedEncoder(Encoder.from_weights(kind, rounded, f"trained {kind} encoder, seed {seed}"), fitting)


def _batches(data: Mapping[str, LabelledPictures], size: int, rng: np.random.Generator) -> Iterator[LabelledBatch]:
    """Minibatches of every camera, (B, ...) each, in random order; what is left over is left out."""
    count = min(len(rows.pictures) for rows in data.values())
    order = rng.permutation(count)
    for start in range(0, count - size + 1, size):
        drawn = order[start : start + size]
        yield {name: (rows.pictures[drawn], rows.labels[drawn], rows.weights[drawn]) for name, rows in data.items()}
