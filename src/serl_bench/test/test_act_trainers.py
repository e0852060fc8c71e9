# SPDX-License-Identifier: Apache-2.0
"""LeRobot's trainer, as the benchmark of both runs it, makes what ours makes where nothing differs by chance."""

from pathlib import Path

import numpy as np
import pytest
from serl_lerobot.compat import is_installed
from serl_rl.encoders.robot_pictures import PictureEpisode
from serl_rl.foreign.act.demonstrations import SMALL_SIZES, fitting_config
from serl_rl.foreign.act.parameters import is_of_backbone

pytestmark = [
    pytest.mark.skipif(not is_installed(), reason="./serl setup lerobot"),
    pytest.mark.slow,
    pytest.mark.timeout(480),  # LeRobot imports much, and a ResNet compiles
]


def _episodes() -> list[PictureEpisode]:
    rng = np.random.default_rng(0)
    made = []
    for length in (9, 8, 7):
        pictures = {name: rng.integers(0, 255, (length + 1, 32, 32, 3), dtype=np.uint8) for name in ("front", "wrist")}
        state = rng.normal(2, 3, (length + 1, 4)).astype(np.float32)
        made.append(PictureEpisode(pictures, state, rng.normal(size=(length, 3)).astype(np.float32)))
    return made


def test_both_trainers_make_the_same_of_the_same_batches(tmp_path: Path) -> None:
    """Without dropout and noise in a latent; with chunks of one action, which LeRobot 0.4 and 0.6 weigh alike."""
    from serl_bench.graph.act_trainers import train_by_lerobot
    from serl_rl.jax.act.demonstrated import first_checkpoint, train_act

    episodes = _episodes()
    chance = {"dropout": 0.0, "use_vae": False, "chunk_size": 1, "n_action_steps": 1}
    config = fitting_config(episodes, **{**SMALL_SIZES, **chance, "optimizer_lr_backbone": 0.0})
    first = first_checkpoint(episodes, config, 0)
    options = {"epochs": 2, "batch_size": 4, "seed": 3, "shift": 2, "views": 2}
    ours = train_act(episodes, config, start=first, **options)
    theirs = train_by_lerobot(tmp_path / "first", first, episodes, **options)
    before, made, expected = (each.parameters for each in (first, ours, theirs))
    assert made.keys() == expected.keys() == before.keys()

    def changed(after: dict[str, np.ndarray]) -> set[str]:
        return {name for name, rows in before.items() if not np.array_equal(rows, after[name])}

    assert changed(expected) == changed(made) != set()
    assert not any(map(is_of_backbone, changed(made)))

    def distance(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> float:
        return float(np.sqrt(sum(((one[name] - other[name]) ** 2).sum() for name in before)))

    assert distance(made, expected) < 1e-2 * distance(before, expected)
