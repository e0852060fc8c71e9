# SPDX-License-Identifier: Apache-2.0
"""Training of reward classifiers: balanced batches, augmented pictures, calibration on episodes that were held out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from serl_rl.config import RewardClassifierConfig
from serl_rl.encoders.encoder import Encoder
from serl_rl.reward.classifier import StageClassifier
from serl_rl.reward.classifier_file import ClassifierInfo
from serl_rl.reward.data import FrameSource, RewardEpisode, check_split
from serl_rl.reward.judging import Report, calibrated, chunks, predict, report

Rows = Mapping[str, NDArray[Any]]
Progress = Callable[[str, int, int], None]
"""Takes what is being done, how much of it is done, and of how much."""


class Fitting(Protocol):
    """Parameters on their way."""

    def step(self, seed: int, batch: Rows, targets: NDArray[np.integer]) -> None:
        """Train on one minibatch.

        Args:
            seed: of everything random in it.
            batch: pictures (B, H, W, 3), or features (B, h, w, c), of each camera.
            targets: their stages (B,).
        """

    def result(self) -> tuple[Encoder, Any]:
        """The encoder, and the parameters behind it."""


@dataclass(frozen=True)
class Computation:
    """What a backend does in the training of a classifier."""

    untrained: Callable[[FrameSource, RewardClassifierConfig, Encoder, int], StageClassifier]
    """A classifier that knows nothing yet, its parameters drawn from a seed."""
    assembled: Callable[[ClassifierInfo, Encoder, Any], StageClassifier]
    """A classifier of an encoder and the parameters behind it."""
    views: Callable[[ClassifierInfo, RewardClassifierConfig, Encoder, int], Callable[[Rows], Rows]]
    """Makes what encodes: features float16 (B, K, h, w, c) of pictures (B, H, W, 3) of each camera, of the picture as
    it is and of K - 1 augmented ones, which are drawn from a seed."""
    fitting: Callable[[StageClassifier, RewardClassifierConfig], Fitting]
    """Begins to train, on features where `config.frozen`, else on pictures and the encoder with them."""


def train_classifier(
    train: Sequence[RewardEpisode],
    held_out: Sequence[RewardEpisode],
    config: RewardClassifierConfig,
    encoder: Encoder,
    *,
    computation: Computation,
    seed: int = 0,
    progress: Progress = lambda _what, _done, _total: None,
) -> tuple[StageClassifier, Report]:
    """Train a classifier, then calibrate it and choose its thresholds on the episodes that were held out.

    Args:
        train: episodes to learn from.
        held_out: episodes to judge by; none of them is in `train`.
        config: how.
        encoder: with its initial weights, or its weights for good where `config.frozen`.
        computation: of a backend.
        seed: of everything random.
        progress: takes what is being done, how much of it is done, and of how much.

    Returns:
        The classifier, and how good it is on `held_out`. The thresholds were chosen there as well, so that rates of
        new episodes may be somewhat worse.

    Raises:
        DataError: the data cannot make or judge a classifier (`check_split`).
    """
    check_split(train, held_out)
    start = computation.untrained(train[0].source, config, encoder, seed)
    info = replace(start.info, trained_on=tuple(episode.id for episode in train))
    labels = np.concatenate([episode.labels for episode in train])
    if config.frozen:
        inputs = _encode_views(train, info, computation.views(info, config, encoder, seed), progress)
    else:
        pictures = {name: np.concatenate([episode.decode(name) for episode in train]) for name in info.cameras}
        inputs = {name: values[:, None] for name, values in pictures.items()}
    trained, head = _fit(start, config, inputs, labels, computation.fitting, seed, progress)
    info = replace(info, encoder_hash=trained.hash)
    classifier = computation.assembled(info, trained, head)
    predictions = predict(classifier, held_out)
    info = calibrated(info, predictions, config.false_positive_rate)
    found = report(info, predictions)
    return computation.assembled(replace(info, metrics=found.metrics), trained, head), found


def _fit(
    start: StageClassifier,
    config: RewardClassifierConfig,
    inputs: Rows,
    labels: NDArray[np.uint8],
    fitting: Callable[[StageClassifier, RewardClassifierConfig], Fitting],
    seed: int,
    progress: Progress,
) -> tuple[Encoder, Any]:
    """Trained encoder and head, of pictures (N, 1, H, W, 3) or of features (N, K, h, w, c)."""
    fitted = fitting(start, config)
    rng = np.random.default_rng(seed)
    by_stage = [np.flatnonzero(labels == stage) for stage in range(len(start.info.source.stages))]
    views = next(iter(inputs.values())).shape[1]
    targets = np.sort(np.arange(config.batch_size) % len(by_stage))
    sizes = np.bincount(targets)
    for number in range(config.steps):
        rows = np.concatenate([rng.choice(group, size) for group, size in zip(by_stage, sizes, strict=True)])
        batch = {name: values[rows, rng.integers(views, size=len(rows))] for name, values in inputs.items()}
        fitted.step(int(rng.integers(2**31)), batch, targets)
        if number % 100 == 0:
            progress("training", number, config.steps)
    return fitted.result()


def _encode_views(
    episodes: Sequence[RewardEpisode], info: ClassifierInfo, encode: Callable[[Rows], Rows], progress: Progress
) -> dict[str, NDArray[np.float16]]:
    """Features float16 (N, K, h, w, c) of every frame: of the picture as it is, and of K - 1 augmented ones."""
    found: dict[str, list[NDArray[np.float16]]] = {name: [] for name in info.cameras}
    for number, episode in enumerate(episodes):
        for count, chunk in chunks({name: episode.decode(name) for name in info.cameras}):
            for name, values in encode(chunk).items():
                found[name].append(values[:count])
        progress("encoding", number + 1, len(episodes))
    return {name: np.concatenate(values) for name, values in found.items()}
