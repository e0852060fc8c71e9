# SPDX-License-Identifier: Apache-2.0
"""What a backbone that is not trained makes of the pictures of demonstrations: computed once, for all epochs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import jax
import numpy as np
from numpy.typing import NDArray

from serl_rl.encoders.robot_pictures import PictureEpisode
from serl_rl.foreign.act.demonstrations import pictures_of, shifted
from serl_rl.foreign.act.directory import ActCheckpoint
from serl_rl.jax.act.backbone import feature_map, fold
from serl_rl.spec import DataError

MAX_BYTES: Final = 2**31
"""Most bytes of maps that are held in memory."""
_BLOCK: Final = 32


def backbone_maps(
    episodes: Sequence[PictureEpisode], checkpoint: ActCheckpoint, views: int, shift: int, rng: np.random.Generator
) -> list[NDArray[np.float32]]:
    """Maps (V, N, h, w, K) of each camera, of V views of all N moments at which something was done.

    Args:
        episodes: of one task.
        checkpoint: whose backbone it is.
        views: of each picture V, each moved at random.
        shift: most pixels by which they are moved.
        rng: draws how.

    Raises:
        DataError: they are more than the memory should hold.
    """
    config, norms = checkpoint.config, dict(checkpoint.normalizations)
    layers = fold(checkpoint.parameters, config)
    mapped: Any = jax.jit(lambda pictures: feature_map(layers, config, pictures))
    made: list[list[list[NDArray[np.float32]]]] = [[[] for _ in range(views)] for _ in config.cameras]
    room = MAX_BYTES
    for pictures in pictures_of(episodes, config, norms, _BLOCK):
        for camera, rows in zip(made, pictures, strict=True):
            filled = np.concatenate([rows, np.zeros((_BLOCK - len(rows), *rows.shape[1:]), np.float32)])
            for view in camera:
                view.append(np.asarray(mapped(shifted(filled, shift, rng)))[: len(rows)])
                room -= view[-1].nbytes
        if room < 0:
            found = "more: give fewer demonstrations, --set views=1 or a smaller picture_size"
            raise DataError("episodes", f"at most {MAX_BYTES >> 20} MiB of the backbone's maps", found)
    return [np.stack([np.concatenate(view) for view in camera]) for camera in made]
