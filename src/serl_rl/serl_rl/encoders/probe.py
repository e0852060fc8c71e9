# SPDX-License-Identifier: Apache-2.0
"""How much of what a robot knows a linear map finds in the features of an encoder, in episodes not fitted to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from serl_rl.encoders.robot_pictures import PictureEpisode

AHEAD: Final = 5
"""Steps after which the way that the robot went is asked for."""
MOST_ROWS: Final = 1500
"""Moments to which a probe is fitted; of more, as many are drawn."""

_PENALTIES: Final = (1e-3, 1e-2, 1e-1, 1.0)

Maps = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Feature maps (N, h, w, c) of pictures (N, H, W, 3)."""


def targets(episode: PictureEpisode) -> dict[str, NDArray[np.float64]]:
    """What is asked of a picture: the state at its moment (n, S), and the way from there to a later one (n, S)."""
    state = episode.state.astype(np.float64)
    later = np.minimum(np.arange(len(state)) + AHEAD, len(state) - 1)
    return {"state": state, "motion": state[later] - state}


def probe(
    maps: Maps, fitted: Sequence[PictureEpisode], held_out: Sequence[PictureEpisode], seed: int = 0
) -> dict[str, float]:
    """Explained share of the variance (R^2) in the held-out episodes, by "camera/target"; the mean over its columns.

    Ridge regression on all features of one picture, its penalty chosen on a quarter of the episodes fitted to. It may
    be negative: worse than the mean.

    Args:
        maps: of the encoder.
        fitted: episodes to fit to, at least four.
        held_out: episodes to judge with.
        seed: of the moments that are drawn.
    """
    rng = np.random.default_rng(seed)
    inner = max(len(fitted) // 4, 1)
    groups = (fitted[inner:], fitted[:inner], held_out)
    wanted = [_joined([targets(episode) for episode in group]) for group in groups]
    keep = rng.permutation(len(wanted[0]["state"]))[:MOST_ROWS]
    found = {}
    for camera in fitted[0].pictures:
        features = [maps(np.concatenate([episode.pictures[camera] for episode in group])) for group in groups]
        rows = [values.reshape(len(values), -1).astype(np.float64) for values in features]
        for target in wanted[0]:
            answers = [wanted[0][target][keep], wanted[1][target], wanted[2][target]]
            found[f"{camera}/{target}"] = _ridge([rows[0][keep], *rows[1:]], answers)
    return found


def _joined(parts: Sequence[Mapping[str, NDArray[np.float64]]]) -> dict[str, NDArray[np.float64]]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _ridge(rows: Sequence[NDArray[np.float64]], answers: Sequence[NDArray[np.float64]]) -> float:
    """R^2 in the last of three groups; the first is fitted to, the second chooses the penalty."""
    mean, deviation = rows[0].mean(axis=0), rows[0].std(axis=0)
    live = deviation > 1e-3 * deviation.max(initial=0.0)  # a feature that hardly ever fires says nothing
    if not live.any():
        return 0.0
    scaled = [(values[:, live] - mean[live]) / deviation[live] / np.sqrt(live.sum()) for values in rows]
    middle = answers[0].mean(axis=0)
    kernel = scaled[0] @ scaled[0].T
    chosen, best = 0.0, -np.inf
    for penalty in _PENALTIES:
        dual = np.linalg.solve(kernel + penalty * np.eye(len(kernel)), answers[0] - middle)
        tried, judged = (
            _explained(values @ scaled[0].T @ dual + middle, truth)
            for values, truth in zip(scaled[1:], answers[1:], strict=True)
        )
        if tried > best:
            chosen, best = judged, tried
    return chosen


def _explained(guess: NDArray[np.float64], truth: NDArray[np.float64]) -> float:
    """Mean R^2 over the columns that vary."""
    total = ((truth - truth.mean(axis=0)) ** 2).sum(axis=0)
    varies = total > 1e-9 * len(truth)
    return float((1.0 - ((guess - truth) ** 2).sum(axis=0)[varies] / total[varies]).mean()) if varies.any() else 0.0
