# SPDX-License-Identifier: Apache-2.0
"""ACT policies of LeRobot in and out, and such policies from recordings."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from serl_config.schema import ConfigError
from serl_launch.errors import CommandError
from serl_rl.backends import make_act_policy
from serl_rl.encoders.encoder import Encoder
from serl_rl.encoders.robot_pictures import PictureEpisode, read_picture_episodes
from serl_rl.foreign.act.config import ActConfig, config_tree, parse_config
from serl_rl.foreign.act.demonstrations import fitting_config
from serl_rl.foreign.act.directory import ActCheckpoint, read_act
from serl_rl.foreign.act.file import open_act, write_act_file
from serl_rl.foreign.act.parameters import parameter_count, parameter_shapes
from serl_rl.foreign.act.writing import write_act
from serl_rl.foreign.errors import ForeignError
from serl_rl.foreign.files import check_shapes


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
    for line in described(checkpoint.config):
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


def train_policy(
    sources: Sequence[Path],
    settings: Sequence[str],
    start: Path | None,
    path: Path,
    epochs: int,
    batch_size: int,
    seed: int,
    say: Callable[[str], None],
) -> None:
    """Train an ACT policy on the episodes of demonstration files, and write it as one file.

    Args:
        sources: demonstration files with pictures, of one task.
        settings: fields of `ActConfig`, each as NAME=VALUE.
        start: an ACT policy whose weights are the first ones, None for new ones.
        path: of the file.
        epochs: how often each moment is learned from.
        batch_size: moments in a batch.
        seed: of all that is drawn.
        say: told how it goes, a line at a time.

    Raises:
        CommandError: a setting is not one of `ActConfig`, or has no such value.
        EncoderError, DataError, SegmentError: a file cannot be learned from, or the loss is no number any more.
        ForeignError: the first weights are those of another architecture.
        OSError: the file cannot be written.
    """
    episodes = read_picture_episodes(sources)
    config = configured(fitting_config(episodes), settings)
    first = None if start is None else open_act(start)
    if first is not None:
        check_shapes(start or Path(), first.parameters, parameter_shapes(config))
    write_act_file(path, trained(episodes, config, epochs, batch_size, seed, first, say))
    say(f"{path}: {path.stat().st_size / 1e6:.1f} MB")


def trained(
    episodes: Sequence[PictureEpisode],
    config: ActConfig,
    epochs: int,
    batch_size: int,
    seed: int,
    start: ActCheckpoint | None,
    say: Callable[[str], None],
    *,
    every: int = 1,
    shift: int = 0,
    views: int = 1,
    encoder: Encoder | None = None,
    report: Callable[[int, Mapping[str, float]], None] = lambda _epoch, _losses: None,
) -> ActCheckpoint:
    """Say what is trained, and train it.

    Args:
        episodes: of one task.
        config: of the policy.
        epochs: how often each moment is learned from.
        batch_size: moments in a batch.
        seed: of all that is drawn.
        start: whose weights are the first ones, None for new ones.
        say: told how it goes, a line at a time.
        every: epochs for a line.
        shift: most pixels by which pictures are moved at random.
        views: of each picture, where the backbone is not trained.
        encoder: that the backbone of new weights computes; None: it is drawn.
        report: told the mean losses of each epoch.

    Raises:
        DataError: there is too little to learn from, or the loss is no number any more.
    """
    from serl_rl.jax.act.demonstrated import train_act

    for line in described(config):
        say(line)
    moments = sum(len(episode.action) for episode in episodes)
    say(f"{len(episodes)} episodes, {moments} moments; {epochs} epochs of {moments // batch_size} x {batch_size}")

    def told(epoch: int, losses: Mapping[str, float]) -> None:
        report(epoch, losses)
        if (epoch + 1) % every == 0:
            say(f"epoch {epoch + 1}: " + ", ".join(f"{name} {value:.4f}" for name, value in losses.items()))

    return train_act(
        episodes,
        config,
        epochs=epochs,
        batch_size=batch_size,
        seed=seed,
        start=start,
        shift=shift,
        views=views,
        encoder=encoder,
        report=told,
    )


def configured(config: ActConfig, settings: Sequence[str]) -> ActConfig:
    """The configuration with these fields changed, each as NAME=VALUE.

    Raises:
        CommandError: a setting is not one of `ActConfig`, or has no such value.
    """
    values = config_tree(config)
    for setting in settings:
        name, given, value = setting.partition("=")
        if not given:
            raise CommandError(f"--set {setting}: expected NAME=VALUE")
        try:
            values[name] = json.loads(value)
        except ValueError:
            values[name] = value  # a word
    try:
        return parse_config(values, "--set")
    except ConfigError as error:
        raise CommandError(str(error).split("\n")[0]) from error


def described(config: ActConfig) -> list[str]:
    """What a policy takes and is, a line each."""
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
