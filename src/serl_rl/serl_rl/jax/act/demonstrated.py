# SPDX-License-Identifier: Apache-2.0
"""An ACT policy from recorded episodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from serl_rl.encoders.robot_pictures import PictureEpisode
from serl_rl.foreign.act.config import ActConfig
from serl_rl.foreign.act.demonstrations import batches, statistics_of
from serl_rl.foreign.act.directory import ActCheckpoint
from serl_rl.foreign.act.initial import initial_parameters
from serl_rl.jax.act.backbone import calibrated
from serl_rl.jax.act.training import ActTraining
from serl_rl.spec import DataError

_CALIBRATED: Final = 64


def train_act(
    episodes: Sequence[PictureEpisode],
    config: ActConfig,
    *,
    epochs: int,
    batch_size: int,
    seed: int,
    start: ActCheckpoint | None = None,
    shift: int = 0,
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
        report: told the mean losses of each epoch, by name.

    Raises:
        DataError: there are fewer moments than one batch needs, or the loss is no number any more.
    """
    moments = sum(len(episode.action) for episode in episodes)
    if moments < batch_size:
        raise DataError("episodes", f"at least {batch_size} moments, one batch", str(moments))
    first = first_checkpoint(episodes, config, seed, start)
    parameters, normalizations = first.parameters, dict(first.normalizations)
    training, rng = ActTraining(config, parameters, seed), np.random.default_rng(seed)
    for epoch in range(epochs):
        losses: dict[str, list[Any]] = {}
        for each in batches(episodes, config, normalizations, batch_size, rng, shift):
            for name, value in training.learn(each).items():
                losses.setdefault(name, []).append(value)
        means = {name: float(np.mean(values)) for name, values in losses.items()}
        if not np.isfinite(means["loss"]):
            raise DataError("loss", "a number", f"{means['loss']} in epoch {epoch + 1}: try a lower learning rate")
        report(epoch, means)
    return ActCheckpoint(config, training.parameters(), first.statistics)


def first_checkpoint(
    episodes: Sequence[PictureEpisode], config: ActConfig, seed: int, start: ActCheckpoint | None = None
) -> ActCheckpoint:
    """The policy with which a training begins: the statistics of the episodes, and weights.

    Args:
        episodes: of one task.
        config: of the policy, for these episodes.
        seed: of new weights, and of the moments whose pictures the frozen normalisations of these are made for.
        start: whose weights they are; None: new ones.
    """
    statistics = statistics_of(episodes)
    if start is not None:
        return ActCheckpoint(config, start.parameters, statistics)
    first = ActCheckpoint(config, initial_parameters(config, seed), statistics)
    if not config.cameras:
        return first
    count = min(_CALIBRATED, sum(len(episode.action) for episode in episodes))
    moments = next(batches(episodes, config, dict(first.normalizations), count, np.random.default_rng(seed)))
    if len({rows.shape for rows in moments.pictures}) == 1:
        pictures = np.concatenate(moments.pictures)
    else:
        pictures = moments.pictures[0]
    return replace(first, parameters=calibrated(first.parameters, config, pictures))
