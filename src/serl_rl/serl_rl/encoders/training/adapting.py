# SPDX-License-Identifier: Apache-2.0
"""Trains an encoder on a robot's own pictures, of which nobody said what is to be seen in them.

What is learned is what the robot knows without a person: its own state in each picture, the way that it went from
there, what it did between two pictures, and which two changed copies are of the same picture. For the last one each
picture has to be told from all others of a minibatch (InfoNCE, van den Oord et al., arXiv 1807.03748), so that features
also hold what differs between episodes alike in the robot's state, like where an object lies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, SupportsFloat

import numpy as np
from numpy.typing import NDArray

from serl_rl.config import EncoderAdaptingConfig
from serl_rl.encoders.encoder import Encoder
from serl_rl.encoders.probe import targets
from serl_rl.encoders.robot_pictures import PictureEpisode

PairBatch = Mapping[str, tuple[NDArray[Any], ...]]
"""Of each camera: pictures and the next ones (B, H, W, 3), labels (B, T) and actions (B, A)."""

CONTRAST_WIDTH = 32
"""Length of the vector by which a picture is told from others."""


def head_shapes(
    start: Encoder, picture: tuple[int, int], labels: int, actions: int
) -> dict[str, tuple[int, tuple[int, int, int]]]:
    """Outputs and features (h, w, c) of each head of a camera.

    Args:
        start: the encoder.
        picture: rows and columns of the camera's pictures.
        labels: that are known of a picture; `known` tells them.
        actions: components of an action; `done` tells it from two pictures, side by side as channels.
    """
    height, width, channels = start.feature_shape(*picture)
    one, two = (height, width, channels), (height, width, 2 * channels)
    return {"known": (labels, one), "done": (actions, two), "named": (CONTRAST_WIDTH, one)}


class AdaptingFitting(Protocol):
    """An encoder on its way, with heads of each camera."""

    def step(self, batch: PairBatch) -> SupportsFloat:
        """Train on a minibatch; returns the loss before."""

    def weights(self) -> dict[str, NDArray[np.float32]]:
        """Those of the encoder by name, as `Encoder.from_weights` takes them."""


MakeAdaptingFitting = Callable[
    [Encoder, Mapping[str, tuple[int, int]], tuple[int, int], EncoderAdaptingConfig, int], AdaptingFitting
]
"""Begins to adapt: an encoder, height and width of the pictures of each camera, the numbers of labels and of actions,
the settings, and the seed of heads and changes."""


class Pairs:
    """All pairs of consecutive moments, and what is to be learned of them, of about unit size."""

    def __init__(self, episodes: Sequence[PictureEpisode]) -> None:
        """Put the moments of all episodes together."""
        self.cameras = tuple(episodes[0].pictures)
        self.pictures = {name: np.concatenate([each.pictures[name] for each in episodes]) for name in self.cameras}
        parts = [targets(episode) for episode in episodes]
        columns = [np.concatenate([part[name] for part in parts]) for name in parts[0]]
        self.labels = _standardized(np.concatenate(columns, axis=1))
        ends = np.cumsum([len(episode) for episode in episodes])
        self.starts = np.setdiff1d(np.arange(ends[-1]), ends - 1)  # all that have a next one
        self.actions = _standardized(np.concatenate([episode.action for episode in episodes]))

    def batch(self, drawn: NDArray[np.int64]) -> PairBatch:
        """What belongs to the pairs of numbers `drawn` (B,): pictures (B, H, W, 3), labels (B, T), actions (B, A)."""
        places = self.starts[drawn]
        labels, actions = self.labels[places], self.actions[drawn]
        return {name: (rows[places], rows[places + 1], labels, actions) for name, rows in self.pictures.items()}


def adapt_encoder(
    start: Encoder,
    episodes: Sequence[PictureEpisode],
    config: EncoderAdaptingConfig,
    seed: int,
    make_fitting: MakeAdaptingFitting,
    report: Callable[[int, float], None] = lambda step, loss: None,
) -> Encoder:
    """The encoder `start`, trained on with pictures of a robot. All its cameras share it.

    Args:
        start: what is adapted.
        episodes: of pictures and the robot's state.
        config: how.
        seed: of the order of the pictures and their changes.
        make_fitting: of a backend, as `serl_rl.backends.encoder_computation` has it.
        report: called after each step with its number from 1 and its loss.

    Raises:
        ValueError: there are fewer moments than a minibatch has.
    """
    pairs = Pairs(episodes)
    if len(pairs.starts) < config.batch_size:
        raise ValueError(f"expected at least {config.batch_size} transitions with pictures, found {len(pairs.starts)}")
    sizes = {name: rows.shape[1:3] for name, rows in pairs.pictures.items()}
    fitting = make_fitting(start, sizes, (pairs.labels.shape[1], pairs.actions.shape[1]), config, seed)
    rng = np.random.default_rng(seed)
    for number in range(config.steps):
        loss = fitting.step(pairs.batch(rng.choice(len(pairs.starts), config.batch_size, replace=False)))
        report(number + 1, float(loss))
    rounded = {name: values.astype(np.float16) for name, values in fitting.weights().items()}
    return Encoder.from_weights(start.kind, rounded, f"adapted {start.name}")


def _standardized(values: NDArray[Any]) -> NDArray[np.float32]:
    """Columns (N, T) of zero mean and unit deviation; those that do not vary are zero."""
    deviation = values.std(axis=0)
    scale = np.divide(1.0, deviation, out=np.zeros_like(deviation), where=deviation > 1e-6)
    return ((values - values.mean(axis=0)) * scale).astype(np.float32)
