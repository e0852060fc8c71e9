# SPDX-License-Identifier: Apache-2.0
"""``serl reward train``: a classifier from recorded frames."""

import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from serl_config.resources import find
from serl_launch.errors import CommandError, Interrupted
from serl_rl.backends import classifier_computation
from serl_rl.config import Backend, EncoderConfig, RewardClassifierConfig
from serl_rl.encoders.loading import ANY_WORLD, load_encoder
from serl_rl.reward.data import RewardEpisode, check_split, read_reward_data, split_episodes
from serl_rl.reward.training import train_classifier


def train(
    files: Sequence[Path],
    out: Path | None,
    validation_files: Sequence[Path],
    config: RewardClassifierConfig,
    seed: int,
    backend: Backend,
) -> None:
    """Trains a classifier, says how good it is on held-out episodes, and writes it.

    Args:
        files: of frames to train with.
        out: file to write; None: named after the first of `files`.
        validation_files: of the episodes that are held out; none: a share of `files`.
        config: how to train.
        seed: of everything random.
        backend: that computes.

    Raises:
        BackendError: the backend is not installed.
        CommandError: the folder of `out` is not there.
        DataError, SegmentError: the frames cannot be used.
        EncoderError: there is no such encoder, or the shipped one was trained for another world or other cameras.
        Interrupted: a person pressed Ctrl-C.
    """
    out = out or files[0].with_name(f"{files[0].stem}.classifier.safetensors")
    if not out.absolute().parent.is_dir():
        raise CommandError(f"{out}: there is no folder {out.absolute().parent}")
    computation = classifier_computation(backend)
    console = Console()
    started = time.monotonic()
    train_episodes, held_out = _split(files, validation_files, config, seed)
    check_split(train_episodes, held_out)
    cameras = tuple(train_episodes[0].source.views)
    settings = EncoderConfig(kind=config.encoder, weights=config.weights)
    world = _world([*train_episodes, *held_out], [*files, *validation_files], config, console)
    encoder = load_encoder(settings, cameras, find, world=world)
    console.print(
        f"{_count(train_episodes)} to train, {_count(held_out)} held out; encoder: {encoder.name}",
        highlight=False,
        soft_wrap=True,
    )
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    try:
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task("reading")
            classifier, report = train_classifier(
                train_episodes,
                held_out,
                config,
                encoder,
                computation=computation,
                seed=seed,
                progress=lambda what, done, total: bar.update(task, description=what, completed=done, total=total),
            )
    except KeyboardInterrupt:
        raise Interrupted(f"training interrupted; {out} was not {'changed' if out.exists() else 'made'}") from None
    classifier.save(out)
    info = classifier.info
    thresholds = ", ".join(
        f"{stage} {threshold:.3f}" for stage, threshold in zip(info.source.stages[1:], info.thresholds, strict=True)
    )
    lines = (
        f"{out}: {time.monotonic() - started:.0f} s",
        f"  threshold: {thresholds}; {info.consecutive} frames in a row; temperature {info.temperature:.2f}",
        "  on held-out episodes, where the threshold was chosen:",
        f"  frames taken for success that are not: {report.false_positives}",
        f"  frames of success that are found:      {report.true_positives}",
        f"  episodes that succeed too early:       {report.false_successes}",
        f"  successes that are found:              {report.found_successes}",
        "  Frames of an episode are alike: trust the intervals over episodes.",
        f"  look at the mistakes: ./serl reward check {out} {files[0]}",
        f"  use it: ./serl train {info.source.task} --reward classifier --classifier {out}",
    )
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)


def _split(
    files: Sequence[Path], validation_files: Sequence[Path], config: RewardClassifierConfig, seed: int
) -> tuple[list[RewardEpisode], list[RewardEpisode]]:
    if validation_files:
        return read_reward_data(files), read_reward_data(validation_files)
    return split_episodes(read_reward_data(files), config.validation, seed)


def _world(
    episodes: Sequence[RewardEpisode], files: Sequence[Path], config: RewardClassifierConfig, console: Console
) -> str:
    """The one world that all frames show; ANY_WORLD, with a warning where it matters, unless they say so."""
    worlds = {episode.source.world for episode in episodes}
    if len(worlds) == 1 and not worlds & {"", ANY_WORLD}:
        return worlds.pop()
    if config.weights == "auto":
        console.print(
            f"warning: {', '.join(map(str, files))}: the world that the frames show is unknown, or not one; shipped "
            "weights were trained on a simulated one and may be worth little for real cameras: see --weights",
            highlight=False,
            soft_wrap=True,
        )
    return ANY_WORLD


def _count(episodes: Sequence[RewardEpisode]) -> str:
    return f"{len(episodes)} episodes ({sum(map(len, episodes))} frames)"
