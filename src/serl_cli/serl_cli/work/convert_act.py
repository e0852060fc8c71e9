# SPDX-License-Identifier: Apache-2.0
"""ACT policies of LeRobot in and out."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from serl_rl.backends import make_act_policy
from serl_rl.foreign.act.config import ActConfig
from serl_rl.foreign.act.directory import read_act
from serl_rl.foreign.act.file import open_act, write_act_file
from serl_rl.foreign.act.parameters import parameter_count
from serl_rl.foreign.act.writing import write_act
from serl_rl.foreign.errors import ForeignError


def import_policy(source: Path, path: Path, say: Callable[[str], None]) -> None:
    """Write the policy in a LeRobot directory as one file.

    Args:
        source: the directory.
        path: of the file.
        say: told what was found, a line at a time.

    Raises:
        ForeignError: the directory is damaged or of something else, or the policy acts with numbers that are none.
        OSError: the file cannot be written.
    """
    checkpoint = read_act(source)
    policy = make_act_policy(checkpoint)
    action = policy.act(
        {name: np.zeros(shape, np.uint8 if len(shape) == 3 else np.float32) for name, shape in policy.inputs.items()}
    )
    if not np.isfinite(action).all():
        raise ForeignError(source, "a policy whose actions are finite", f"{action} for zeros")
    write_act_file(path, checkpoint)
    for line in _described(checkpoint.config):
        say(line)
    say(f"{path}: {path.stat().st_size / 1e6:.1f} MB")


def export_policy(source: Path, path: Path, say: Callable[[str], None]) -> None:
    """Write an ACT policy as a new LeRobot directory.

    Args:
        source: a file of ours, or a directory of any version of LeRobot.
        path: of the directory.
        say: told what was written.

    Raises:
        ForeignError: the source is damaged or of something else, or the directory is not new.
        OSError: it cannot be written.
    """
    checkpoint = open_act(source)
    write_act(path, checkpoint)
    names = ", ".join(sorted(each.name for each in path.iterdir()))
    say(f"{path}: {parameter_count(checkpoint.config) / 1e6:.1f} M numbers, for LeRobot 0.4 and later ({names})")


def _described(config: ActConfig) -> list[str]:
    lines = []
    for name, feature in config.features.items():
        sizes = " x ".join(map(str, feature.shape[1:] if feature.type == "VISUAL" else feature.shape))
        what = "pixels" if feature.type == "VISUAL" else "numbers"
        lines.append(f"{name}: {sizes} {what}, normalised by {config.normalization(name)}")
    ensemble = config.temporal_ensemble_coeff
    how = f"{config.n_action_steps} of them executed" if ensemble is None else f"ensemble with coefficient {ensemble:g}"
    lines.append(
        f"{config.vision_backbone if config.cameras else 'no pictures'}, {config.n_encoder_layers} encoder and "
        f"{config.n_decoder_layers} decoder layers of {config.dim_model}, chunks of {config.chunk_size}, {how}"
    )
    return lines
