# SPDX-License-Identifier: Apache-2.0
"""What a reward classifier says of episodes, how good that is, and what follows for its temperature and thresholds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from serl_rl.reward.calibration import (
    Rate,
    area_under_roc,
    balanced_loss,
    choose_threshold,
    first_success,
    fit_temperature,
    rates,
    softmax,
)
from serl_rl.reward.classifier import StageClassifier
from serl_rl.reward.classifier_file import ClassifierInfo
from serl_rl.reward.data import RewardEpisode

_CHUNK = 64  # pictures encoded at once


@dataclass(frozen=True)
class Predictions:
    """What a classifier says of some episodes."""

    episodes: Sequence[RewardEpisode]
    logits: Sequence[NDArray[np.float32]]
    """(T, S) of each, before the temperature."""

    @property
    def labels(self) -> NDArray[np.uint8]:
        """(N,) of all frames."""
        return np.concatenate([episode.labels for episode in self.episodes])

    def probabilities(self, temperature: float) -> NDArray[np.float64]:
        """(N, S) of all frames."""
        return softmax(np.concatenate(self.logits), temperature)


@dataclass(frozen=True)
class Report:
    """How good a classifier is on some episodes, at its own temperature and thresholds."""

    false_positives: Rate
    """Frames that are not of the last stage."""
    true_positives: Rate
    """Frames of the last stage."""
    false_successes: Rate
    """Episodes that count as succeeded before they are: what a policy would learn from."""
    found_successes: Rate
    """Episodes with success that are found to succeed, before that or then."""
    area: float
    """Area under the ROC curve."""
    loss: float
    """`balanced_loss` [nat]."""

    @property
    def metrics(self) -> dict[str, float]:
        """Numbers for the classifier's file."""
        found = {"area_under_roc": self.area, "loss": self.loss}
        for name in ("false_positives", "true_positives", "false_successes", "found_successes"):
            rate: Rate = getattr(self, name)
            low, high = rate.interval
            found |= {name: rate.value, f"{name}_of": float(rate.total), f"{name}_low": low, f"{name}_high": high}
        return found


def predict(classifier: StageClassifier, episodes: Sequence[RewardEpisode]) -> Predictions:
    """Let a classifier look at episodes.

    Raises:
        DataError: pictures that cannot be read or have another shape.
    """
    found = []
    for episode in episodes:
        pictures = {name: episode.decode(name) for name in classifier.info.cameras}
        found.append(np.concatenate([classifier.logits(chunk)[:count] for count, chunk in chunks(pictures)]))
    return Predictions(episodes, found)


def report(info: ClassifierInfo, predictions: Predictions) -> Report:
    """How good a classifier with these thresholds is."""
    last = len(info.source.stages) - 1
    probabilities, labels = predictions.probabilities(info.temperature), predictions.labels
    false, true = rates(probabilities[:, last], labels == last, info.thresholds[-1])
    too_early = found = successes = 0
    for episode, logits in zip(predictions.episodes, predictions.logits, strict=True):
        frame = first_success(softmax(logits, info.temperature), info.thresholds, info.consecutive)
        successes += episode.succeeds
        too_early += frame is not None and not (episode.labels[: frame + 1] == last).any()
        found += frame is not None and episode.succeeds
    return Report(
        false_positives=false,
        true_positives=true,
        false_successes=Rate(too_early, len(predictions.episodes)),
        found_successes=Rate(found, successes),
        area=area_under_roc(probabilities[:, last], labels == last),
        loss=balanced_loss(np.concatenate(predictions.logits), labels, info.temperature),
    )


def calibrated(info: ClassifierInfo, predictions: Predictions, false_positive_rate: float) -> ClassifierInfo:
    """What is known of a classifier, with temperature and thresholds from what it says of held-out episodes."""
    labels = predictions.labels
    temperature = fit_temperature(np.concatenate(predictions.logits), labels)
    probabilities = predictions.probabilities(temperature)
    thresholds = tuple(
        choose_threshold(probabilities[:, stage], labels == stage, false_positive_rate)
        for stage in range(1, len(info.source.stages))
    )
    return replace(info, temperature=temperature, thresholds=thresholds)


def chunks(pictures: Mapping[str, NDArray[np.uint8]]) -> Iterator[tuple[int, dict[str, NDArray[np.uint8]]]]:
    """Parts of one and the same length, so that nothing is compiled twice, and how many frames of each count."""
    total = len(next(iter(pictures.values())))
    for start in range(0, total, _CHUNK):
        count = min(_CHUNK, total - start)
        rows = np.minimum(np.arange(start, start + _CHUNK), total - 1)
        yield count, {name: values[rows] for name, values in pictures.items()}
