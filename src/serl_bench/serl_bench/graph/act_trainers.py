# SPDX-License-Identifier: Apache-2.0
"""ACT trained in JAX and by LeRobot's class and optimizer: same recordings, first weights, batches and epochs.

Needs `./serl setup lerobot`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from serl_config.resources import find
from serl_config.schema import build
from serl_lerobot.act import LeRobotActTraining
from serl_lerobot.compat import load
from serl_rl.config import EncoderConfig
from serl_rl.encoders.loading import load_encoder
from serl_rl.encoders.robot_pictures import PictureEpisode, read_picture_episodes
from serl_rl.foreign.act.demonstrations import SMALL_SIZES, batches, fitting_config
from serl_rl.foreign.act.directory import ActCheckpoint
from serl_rl.foreign.act.parameters import PREFIX, is_of_backbone
from serl_rl.foreign.act.writing import write_act
from serl_rl.imported.mapping import PolicyMapping

from serl_bench.benchmark import Bench, Measurement
from serl_bench.graph.act_improvement import judged_by_lerobot, serl
from serl_bench.graph.training_runs import EVALUATION_EPISODES, VISION
from serl_tasks import get_task

DEMONSTRATIONS, EPOCHS, BATCH, SHIFT, VIEWS = 30, 80, 32, 4, 2
"""Those that `./serl train --learning act` takes by default; shift in pixels."""
TRAININGS = 2
"""How often each trainer is run for a seed, as two trainings on the same recordings differ, too."""
_NEXT = 1000  # from the seed of one training to that of the next


def act_against_lerobot(bench: Bench) -> Measurement:
    """How much more often LeRobot's succeeds than ours [% of the same starts], mean of all trainings."""
    from serl_rl.jax.act.demonstrated import first_checkpoint, train_act

    rows: dict[int, dict[str, list[float]]] = {}
    task = get_task(VISION)
    encoder = load_encoder(EncoderConfig(), tuple(task.cameras), find, world=task.world)
    for seed in bench.seeds:
        file = bench.scratch / f"shown-{seed}.serl"
        serl(bench.scratch, f"record-{seed}", *("record", VISION, "--out", str(file)), *_options(seed))
        episodes = read_picture_episodes([file])
        config = fitting_config(episodes, **{**SMALL_SIZES, "optimizer_lr_backbone": 0.0})
        first = first_checkpoint(episodes, config, seed, encoder=encoder)
        options: dict[str, Any] = {"epochs": EPOCHS, "batch_size": BATCH, "shift": SHIFT, "views": VIEWS}
        rows[seed] = {"ours": [], "theirs": []}
        for drawn in range(seed, seed + TRAININGS * _NEXT, _NEXT):
            for name, rates in rows[seed].items():
                path = bench.scratch / f"{name}-{drawn}"
                if name == "ours":
                    checkpoint = train_act(episodes, config, seed=drawn, start=first, **options)
                else:
                    start = bench.scratch / f"first-{drawn}"
                    checkpoint = train_by_lerobot(start, first, episodes, seed=drawn, **options)
                write_act(path, checkpoint)
                rates.append(100 * judged_by_lerobot(path, VISION, EVALUATION_EPISODES, _mapping(config.cameras)))
                bench.say(f"  seed {seed}: {name} {rates[-1]:.0f} %")
    spread = "; ".join(
        f"seed {seed}: ours {_listed(row['ours'])}, theirs {_listed(row['theirs'])}" for seed, row in rows.items()
    )
    mean = np.mean([np.subtract(row["theirs"], row["ours"]) for row in rows.values()])
    return Measurement(float(mean), spread, {"seeds": rows})


def train_by_lerobot(
    path: Path,
    first: ActCheckpoint,
    episodes: Sequence[PictureEpisode],
    *,
    epochs: int,
    batch_size: int,
    seed: int,
    shift: int,
    views: int,
) -> ActCheckpoint:
    """Train by LeRobot's class and optimizer, from maps of the frozen backbone and batches that are drawn as in JAX.

    Args:
        path: of a directory for the first weights, which is new.
        first: these; the backbone is frozen.
        episodes: of one task.
        epochs: how often each moment is learned from.
        batch_size: moments in a batch.
        seed: of all that is drawn.
        shift: most pixels by which the pictures of a moment are moved at random.
        views: of each picture, each moved by itself.
    """
    from serl_rl.jax.act.maps import backbone_maps

    torch = load("torch")
    torch.manual_seed(seed)
    write_act(path, first)
    training, rng = LeRobotActTraining(path, from_maps=True), np.random.default_rng(seed)
    config, norms = first.config, dict(first.normalizations)
    maps = backbone_maps(episodes, first, views, shift, rng)
    for _ in range(epochs):
        for each in batches(episodes, config, norms, batch_size, rng, maps=maps):
            seen = zip(config.cameras, each.maps, strict=True)
            batch: dict[str, NDArray[Any]] = {name: rows.transpose(0, 3, 1, 2).copy() for name, rows in seen}
            batch |= {"observation.state": each.state, "action": each.actions, "action_is_pad": each.padding}
            training.update({name: torch.from_numpy(values) for name, values in batch.items()})
    found = {name.removeprefix(PREFIX): values for name, values in training.parameters().items()}
    found |= {name: rows for name, rows in first.parameters.items() if is_of_backbone(name)}
    return ActCheckpoint(config, {name: found[name] for name in first.parameters}, first.statistics)


def _listed(rates: Sequence[float]) -> str:
    return " and ".join(f"{rate:.0f} %" for rate in rates)


def _mapping(cameras: tuple[str, ...]) -> PolicyMapping:
    return build(PolicyMapping, {"cameras": {name: name.rpartition(".")[2] for name in cameras}}, "cameras")


def _options(seed: int) -> tuple[str, ...]:
    return ("--episodes", str(DEMONSTRATIONS), "--seed", str(seed))
