# SPDX-License-Identifier: Apache-2.0
"""Recorded episodes as what an ACT policy learns from: statistics, and moments with the actions that follow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from serl_rl.encoders.robot_pictures import PictureEpisode
from serl_rl.foreign.act.config import ACTION, STATE, ActConfig, ActFeature
from serl_rl.foreign.act.normalization import Normalization, Statistics
from serl_rl.spec import DataError

Array = NDArray[np.float32]

PICTURES: Final = "observation.images."
"""What the name of a camera's feature begins with."""
SMALL_SIZES: Final[Mapping[str, Any]] = {
    "chunk_size": 5,
    "n_action_steps": 2,
    "dim_model": 128,
    "n_heads": 4,
    "dim_feedforward": 512,
    "n_encoder_layers": 2,
    "n_vae_encoder_layers": 2,
    "latent_dim": 8,
    "optimizer_lr": 3e-4,
    "optimizer_lr_backbone": 1e-4,
}
"""What two cores can train in minutes; LeRobot's defaults are for a GPU and for weights that were trained before."""
_CONSTANT: Final = 1e-6


class Moments(NamedTuple):
    """B moments and what was done from each on, normalised."""

    pictures: list[Array]
    """(B, H, W, 3) of each camera; none where there are maps."""
    state: Array
    """(B, S)."""
    actions: Array
    """(B, C, A): the last action again behind the end of the episode."""
    padding: NDArray[np.bool_]
    """(B, C): true behind the end of the episode."""
    maps: Sequence[Array] = ()
    """(B, h, w, K) of each camera: what a backbone that is not trained makes of the pictures."""


def fitting_config(episodes: Sequence[PictureEpisode], **settings: Any) -> ActConfig:
    """The configuration of a policy for what these episodes hold.

    Args:
        episodes: of one task.
        settings: other fields of `ActConfig`.

    Raises:
        DataError: there is no episode.
        ValueError: settings that do not go together.
    """
    if not episodes:
        raise DataError("episodes", "at least one", "none")
    first = episodes[0]
    inputs = {f"{PICTURES}{name}": ActFeature("VISUAL", (3, *rows.shape[1:3])) for name, rows in first.pictures.items()}
    inputs[STATE] = ActFeature("STATE", (first.state.shape[1],))
    outputs = {ACTION: ActFeature("ACTION", (first.action.shape[1],))}
    return ActConfig(input_features=inputs, output_features=outputs, **settings)


def statistics_of(episodes: Sequence[PictureEpisode]) -> dict[str, Statistics]:
    """Mean, standard deviation and range of each feature; a component that never changes has the deviation 1."""
    found: dict[str, Statistics] = {}
    for name in episodes[0].pictures:
        # A level at a time, as pictures are too many for floating point numbers in memory.
        counts = np.zeros((3, 256))
        for episode in episodes:
            rows = episode.pictures[name]
            counts += [np.bincount(rows[..., channel].ravel(), minlength=256) for channel in range(3)]
        levels = np.arange(256) / 255
        mean = counts @ levels / counts.sum(1)
        variance = counts @ levels**2 / counts.sum(1) - mean**2
        low = levels[(counts > 0).argmax(1)]
        high = levels[255 - (counts[:, ::-1] > 0).argmax(1)]
        parts = {"mean": mean, "std": np.sqrt(np.maximum(variance, 0)), "min": low, "max": high}
        found[f"{PICTURES}{name}"] = {kind: _single(values).reshape(3, 1, 1) for kind, values in parts.items()}
    for name, rows in (
        (STATE, np.concatenate([each.state[: len(each.action)] for each in episodes])),
        (ACTION, np.concatenate([each.action for each in episodes])),
    ):
        parts = {
            "mean": rows.mean(0, np.float64),
            "std": rows.std(0, np.float64),
            "min": rows.min(0),
            "max": rows.max(0),
        }
        found[name] = {kind: _single(values) for kind, values in parts.items()}
    for each in found.values():
        each["std"][each["std"] < _CONSTANT] = 1
    return found


def batches(
    episodes: Sequence[PictureEpisode],
    config: ActConfig,
    normalizations: dict[str, Normalization],
    size: int,
    rng: np.random.Generator,
    shift: int = 0,
    maps: Sequence[Array] = (),
) -> Iterator[Moments]:
    """One epoch: every moment at which something was done, once, in random order; what is left over fills no batch.

    Args:
        episodes: of one task.
        config: of the policy.
        normalizations: of its features.
        size: moments in a batch B, at most as many as there are.
        rng: draws the order, and how pictures are moved.
        shift: most pixels by which each picture is moved in both directions; what comes in repeats its edge.
        maps: (V, N, h, w, K) of each camera, for V views of all N moments: one of a view that is drawn is taken in the
            place of each picture.
    """
    places = _places(episodes)
    order = rng.permutation(len(places))
    for start in range(0, len(order) - size + 1, size):
        taken = order[start : start + size]
        moments = _moments(episodes, config, normalizations, places[taken])
        if maps:
            view = rng.integers(0, len(maps[0]), len(taken))
            yield moments._replace(maps=[rows[view, taken] for rows in maps])
        else:
            seen = _pictures(episodes, config, normalizations, places[taken])
            yield moments._replace(pictures=[shifted(rows, shift, rng) for rows in seen])


def pictures_of(
    episodes: Sequence[PictureEpisode], config: ActConfig, normalizations: dict[str, Normalization], size: int
) -> Iterator[list[Array]]:
    """The pictures of all moments at which something was done, in their order: of each camera, (B, H, W, 3).

    Args:
        episodes: of one task.
        config: of the policy.
        normalizations: of its features.
        size: most moments at a time.
    """
    places = _places(episodes)
    for start in range(0, len(places), size):
        yield _pictures(episodes, config, normalizations, places[start : start + size])


def _places(episodes: Sequence[PictureEpisode]) -> NDArray[np.intp]:
    return np.array([(i, at) for i, episode in enumerate(episodes) for at in range(len(episode.action))], np.intp)


def _pictures(
    episodes: Sequence[PictureEpisode],
    config: ActConfig,
    normalizations: dict[str, Normalization],
    places: NDArray[np.intp],
) -> list[Array]:
    pictures = []
    for name in config.cameras:
        rows = np.stack([episodes[i].pictures[name.removeprefix(PICTURES)][at] for i, at in places])
        levels = np.arange(256, dtype=np.float32)[:, None, None, None] / 255  # each level once, instead of each pixel
        table = normalizations[name].normalise(np.broadcast_to(levels, (256, 3, 1, 1)))[:, :, 0, 0]
        pictures.append(table[rows, np.arange(3)])
    return pictures


def _moments(
    episodes: Sequence[PictureEpisode],
    config: ActConfig,
    normalizations: dict[str, Normalization],
    places: NDArray[np.intp],
) -> Moments:
    ahead = np.arange(config.chunk_size)
    state = normalizations[STATE].normalise(np.stack([episodes[i].state[at] for i, at in places]))
    done = [episodes[i].action[np.minimum(at + ahead, len(episodes[i].action) - 1)] for i, at in places]
    padding = np.stack([at + ahead >= len(episodes[i].action) for i, at in places])
    return Moments([], state, normalizations[ACTION].normalise(np.stack(done)), padding)


def shifted(pictures: Array, shift: int, rng: np.random.Generator) -> Array:
    """Pictures (B, H, W, 3), each moved by up to `shift` pixels in both directions; what comes in repeats its edge."""
    if not shift:
        return pictures
    height, width = pictures.shape[1:3]
    padded = np.pad(pictures, ((0, 0), (shift, shift), (shift, shift), (0, 0)), mode="edge")
    moves = rng.integers(0, 2 * shift + 1, (len(pictures), 2))
    return np.stack([rows[y : y + height, x : x + width] for rows, (y, x) in zip(padded, moves, strict=True)])


def _single(values: NDArray[Any]) -> Array:
    return np.asarray(values, np.float32)
