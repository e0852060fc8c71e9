# SPDX-License-Identifier: Apache-2.0
"""``serl reward check``: how good a classifier is on frames that it has not seen, and its worst mistakes."""

import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from serl_config.resources import find
from serl_launch.errors import CommandError
from serl_rl.backends import load_classifier
from serl_rl.config import Backend
from serl_rl.reward.data import RewardEpisode, read_reward_data
from serl_training.reward.reward_frames import check_source

from serl_launch import runs


def check(classifier_file: Path, files: Sequence[Path], out: Path | None, backend: Backend) -> None:
    """Judges held-out episodes, prints the rates, and writes a page with the worst mistakes.

    Args:
        classifier_file: to check.
        files: of frames; episodes that the classifier was trained with are left out.
        out: page to write; None: in a folder of its own among the runs.
        backend: that computes what the classifier says.

    Raises:
        BackendError: the backend is not installed.
        CommandError: nothing is left to judge, or the page cannot be written.
        ClassifierError, DataError, SegmentError: a file cannot be used.
    """
    episodes = read_reward_data(files)
    from serl_rl.reward.judging import predict, report

    from serl_cli.reward.classifier_page import render

    classifier = load_classifier(classifier_file, find, backend)
    info = classifier.info
    check_source(str(files[0]), episodes[0].source, info.source)
    unseen = [episode for episode in episodes if episode.id not in set(info.trained_on)]
    if not unseen:
        raise CommandError(
            f"{classifier_file} was trained with all {len(episodes)} episodes of {', '.join(map(str, files))}: "
            "record others to check it with"
        )
    predictions = predict(classifier, unseen)
    found = report(info, predictions)
    if out is None:
        folder = runs.runs_root() / f"check-{classifier_file.stem}-{time.strftime('%Y%m%d-%H%M%S')}"
        folder.mkdir(parents=True, exist_ok=True)
        out = folder / "index.html"
    runs.write_atomically(out, render(classifier_file.name, info, predictions, found))
    console = Console()
    for line in (
        _scope(episodes, unseen),
        f"frames taken for success that are not: {found.false_positives}",
        f"frames of success that are found:      {found.true_positives}",
        f"episodes that succeed too early:       {found.false_successes}",
        f"successes that are found:              {found.found_successes}",
        f"mistakes: {out}",
    ):
        console.print(line, highlight=False, soft_wrap=True)


def _scope(episodes: Sequence[RewardEpisode], unseen: Sequence[RewardEpisode]) -> str:
    left_out = len(episodes) - len(unseen)
    what = f"{len(unseen)} episodes, {sum(map(len, unseen))} frames"
    return what + (f"; {left_out} others were trained with and are left out" if left_out else "")
