# SPDX-License-Identifier: Apache-2.0
"""``serl reward`` where no graph is needed: what is refused, and the page of mistakes."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from serl_cli.app import main
from serl_cli.reward.train_classifier import _world
from serl_rl.config import RewardClassifierConfig
from serl_rl.encoders.loading import ANY_WORLD
from serl_rl.reward.data import EpisodeBuilder, FrameSource, RewardDataFile, RewardEpisode
from serl_training.reward.reward_frames import frame_source

from serl_tasks import get_task

SOURCE = frame_source(get_task("pick_cube_vision"))


HALVES = (("train", [0, 1] * 20), ("validation", [0, 1] * 10))


def episode(labels: list[int], source: FrameSource = SOURCE) -> RewardEpisode:
    rng = np.random.default_rng(len(labels))
    builder = EpisodeBuilder(source, "truth")
    for label in labels:
        colour = rng.integers(0, 255, 3).astype(np.uint8)
        builder.add({name: np.full(view.shape, colour, np.uint8) for name, view in SOURCE.views.items()}, label)
    return builder.build()


def frames(path: Path, *episodes: RewardEpisode) -> Path:
    with RewardDataFile(path, SOURCE) as file:
        for each in episodes:
            file.append(each)
    return path


def complaint(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line of a command that fails."""
    assert main(list(arguments)) != 0
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("serl: error:")]
    assert len(lines) == 1
    return lines[0]


def test_frames_that_make_no_classifier_are_refused(tmp_path, capsys):
    one_class = frames(tmp_path / "one.frames", episode([0] * 40), episode([0] * 40))
    assert "found 0 of success" in complaint(capsys, "reward", "train", str(one_class))
    few = frames(tmp_path / "few.frames", episode([0, 1]), episode([0, 1]))
    assert "at least 20 of each stage" in complaint(capsys, "reward", "train", str(few))
    same = complaint(capsys, "reward", "train", str(few), "--validation", str(few))
    assert "expected episodes that training has not seen" in same
    (tmp_path / "broken.frames").write_bytes(few.read_bytes()[:-100] + b"x" * 100)
    assert "damaged" in complaint(capsys, "reward", "train", str(tmp_path / "broken.frames"))


def test_a_classifier_of_frames_from_another_world_gets_no_shipped_encoder(tmp_path, capsys):
    shelf = replace(SOURCE, world="shelf")
    files = [frames(tmp_path / f"{n}.frames", *(episode(labels, shelf) for _ in range(2))) for n, labels in HALVES]
    error = complaint(capsys, "reward", "train", str(files[0]), "--validation", str(files[1]))
    assert "expected weights for the world shelf and the cameras front, wrist" in error
    assert "the world table" in error


def test_frames_of_an_unknown_world_are_named_before_they_meet_weights_of_a_simulated_one():
    def told(weights: str, *worlds: str) -> tuple[str, str]:
        console = Console(record=True, file=StringIO())
        episodes = [episode([0, 1], replace(SOURCE, world=world)) for world in worlds]
        world = _world(episodes, [Path("old.frames")], RewardClassifierConfig(weights=weights), console)
        return world, console.export_text()

    assert told("auto", "table", "table") == ("table", "")
    for worlds in ([""], ["", "table"], ["shelf", "table"]):
        world, text = told("auto", *worlds)
        assert world == ANY_WORLD
        assert "old.frames: the world that the frames show is unknown" in text
        assert told("random", *worlds) == (ANY_WORLD, "")


def test_a_task_without_cameras_has_nothing_to_record(tmp_path, capsys):
    text = complaint(capsys, "reward", "record", "pick_cube", "--out", str(tmp_path / "a.frames"))
    assert "expected cameras, which a reward classifier looks through, found none" in text
    assert "--label keys" in complaint(capsys, "reward", "record", "--stages", "apart,held,done")


def test_a_judge_that_cannot_judge_is_refused_before_anything_starts(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("SERL_RUNS", str(tmp_path / "runs"))
    assert "belong together" in complaint(capsys, "train", "--reward", "classifier")
    assert "add --rtf 1" in complaint(capsys, "train", "--reward", "human")
    (tmp_path / "x.safetensors").write_bytes(b"nothing")
    options = ("--reward", "classifier", "--classifier", str(tmp_path / "x.safetensors"))
    assert "is damaged, or no reward classifier" in complaint(capsys, "train", *options)
    assert not (tmp_path / "runs").exists()


class _Page(HTMLParser):
    """Counts elements; fails on anything that is not closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.pictures = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "img":
            self.pictures += dict(attrs)["src"].startswith("data:image/jpeg;base64,")
        elif tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_of_mistakes_needs_no_other_file(tmp_path):
    from serl_cli.reward.classifier_page import MOST_MISTAKES, render
    from serl_rl.reward.classifier_file import ClassifierInfo
    from serl_rl.reward.judging import Predictions, report

    episodes = [episode([0] * 30 + [1] * 5), episode([0] * 20)]
    rng = np.random.default_rng(0)
    predictions = Predictions(episodes, [rng.standard_normal((len(each), 2)).astype(np.float32) for each in episodes])
    info = ClassifierInfo(SOURCE, "small", "auto", "0" * 16, 8, 64, 1.0, (0.6,), 2)
    page = _Page()
    text = render("<a> & b", info, predictions, report(info, predictions))
    page.feed(text)
    assert not page.open
    assert page.pictures == 2 * (MOST_MISTAKES + 5)
    assert "&lt;a&gt; &amp; b" in text
    assert "http" not in text


def test_a_classifier_of_another_stack_that_cannot_be_taken_over_is_named_and_nothing_is_written(tmp_path, capsys):
    out, source = tmp_path / "x.safetensors", tmp_path / "theirs"
    command = ("reward", "import", "lerobot", str(source), "--out", str(out))
    assert "nothing there" in complaint(capsys, *command)
    source.mkdir()
    assert "config.json" in complaint(capsys, *command)
    (source / "config.json").write_text('{"type": "sac"}')
    assert '"type": "reward_classifier"' in complaint(capsys, *command)
    (source / "config.json").write_text('{"type": "reward_classifier"}')
    assert "half written" in complaint(capsys, *command)
    assert "NAME=CAMERA" in complaint(capsys, *command, "--camera", "front")
    assert "no task" in complaint(capsys, *command, "--task", "fly")
    assert "cameras" in complaint(capsys, *command, "--task", "pick_cube")
    assert not out.exists()
    out.write_text("mine")
    assert "exists" in complaint(capsys, *command)
    assert out.read_text() == "mine"
