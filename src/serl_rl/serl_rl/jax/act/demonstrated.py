# SPDX-License-Identifier: Apache-2.0
"""An ACT policy from recorded episodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from serl_rl.encoders.encoder import Encoder
from serl_rl.encoders.robot_pictures import PictureEpisode
from serl_rl.foreign.act.config import ActConfig
from serl_rl.foreign.act.demonstrations import batches, statistics_of
from serl_rl.foreign.act.directory import ActCheckpoint
from serl_rl.foreign.act.initial import initial_parameters
from serl_rl.jax.act.backbone import calibrated
from serl_rl.jax.act.embedding import LEVELS, with_encoder
from serl_rl.jax.act.maps import backbone_maps
from serl_rl.jax.act.training import ActTraining
from serl_rl.spec import DataError

_CALIBRATED: Final = 32


def train_act(
    episodes: Sequence[PictureEpisode],
    config: ActConfig,
    *,
    epochs: int,
    batch_size: int,
    seed: int,
    start: ActCheckpoint | None = None,
    shift: int = 0,
    views: int = 2,
    encoder: Encoder | None = None,
    report: Callable[[int, Mapping[str, float]], None] = lambda _epoch, _losses: None,
) -> ActCheckpoint:
    """Train a policy.

    Args:
        episodes: of one task.
        config: of the policy, for these episodes.
        epochs: how often each moment is learned from.
        batch_size: moments in a batch.
        seed: of the first weights and of all that is drawn.
        start: a policy with the same tensors, whose weights are the first ones; None: new ones, of
            `first_checkpoint`.
        shift: most pixels by which the pictures of a moment are moved at random.
        views: of each picture, each moved by itself, whose maps a backbone makes once where it is not trained.
        encoder: that the backbone of new weights makes the maps of, of kind `small`; None: it is drawn.
        report: told the mean losses of each epoch, by name.

    Raises:
        DataError: there are fewer moments than one batch needs, the encoder does not fit into the policy, or the loss
            is no number any more.
    """
    moments = sum(len(episode.action) for episode in episodes)
    if moments < batch_size:
        raise DataError("episodes", f"at least {batch_size} moments, one batch", str(moments))
    first = first_checkpoint(episodes, config, seed, start, encoder)
    parameters, normalizations = first.parameters, dict(first.normalizations)
    training, rng = ActTraining(config, parameters, seed), np.random.default_rng(seed)
    maps: Sequence[NDArray[np.float32]] = ()
    if config.frozen and config.cameras:
        maps = backbone_maps(episodes, first, views if shift else 1, shift, rng)
    for epoch in range(epochs):
        losses: dict[str, list[Any]] = {}
        for each in batches(episodes, config, normalizations, batch_size, rng, shift, maps):
            for name, value in training.learn(each).items():
                losses.setdefault(name, []).append(value)
        means = {name: float(np.mean(values)) for name, values in losses.items()}
        if not np.isfinite(means["loss"]):
            raise DataError("loss", "a number", f"{means['loss']} in epoch {epoch + 1}: try a lower learning rate")
        report(epoch, means)
    return ActCheckpoint(config, training.parameters(), first.statistics)


def first_checkpoint(
    episodes: Sequence[PictureEpisode],
    config: ActConfig,
    seed: int,
    start: ActCheckpoint | None = None,
    encoder: Encoder | None = None,
) -> ActCheckpoint:
    """The policy with which a training begins: weights, and the statistics of the episodes.

    Those of pictures are what the backbone knows already, where it is that of another policy or of an encoder.

    Args:
        episodes: of one task.
        config: of the policy, for these episodes.
        seed: of new weights, and of the moments whose pictures these are made for.
        start: whose weights they are; None: new ones.
        encoder: that the backbone of new weights makes the maps of, of kind `small`; None: the backbone is drawn, and
            its frozen normalisations are made for the pictures.

    Raises:
        DataError: the encoder does not fit into the policy.
    """
    statistics = statistics_of(episodes)
    if start is not None:
        known = {name: start.statistics[name] for name in config.cameras if name in start.statistics}
        return ActCheckpoint(config, start.parameters, statistics | known)
    if encoder is not None:
        for name in config.cameras:
            if config.normalization(name) not in ("MEAN_STD", "MIN_MAX"):
                expected = "MEAN_STD or MIN_MAX of pictures, for the encoder in the backbone"
                raise DataError("normalization_mapping", expected, config.normalization(name))
            statistics[name] = {kind: np.full((3, 1, 1), value, np.float32) for kind, value in LEVELS.items()}
    first = ActCheckpoint(config, initial_parameters(config, seed), statistics)
    if not config.cameras:
        return first
    count = min(_CALIBRATED, sum(len(episode.action) for episode in episodes))
    moments = next(batches(episodes, config, dict(first.normalizations), count, np.random.default_rng(seed)))
    if len({rows.shape for rows in moments.pictures}) == 1:
        pictures = np.concatenate(moments.pictures)
    else:
        pictures = moments.pictures[0]
    if encoder is None:
        return replace(first, parameters=calibrated(first.parameters, config, pictures))
    return replace(first, parameters=with_encoder(first.parameters, config, encoder, pictures, seed))
