# SPDX-License-Identifier: Apache-2.0
"""Whatever a person hands in as a file: every reader answers with one line of ours that names it, and soon."""

from __future__ import annotations

import json
import os
import pickle
import resource
import signal
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import serl_cameras.camera_calibration
import serl_cameras.sources.file
import serl_launch.runs
import serl_rl.checkpoint
import serl_rl.encoders.file
import serl_rl.encoders.resnet_params
import serl_rl.reward.classifier_file
import serl_rl.reward.data
import serl_rl.storage.demonstrations
import serl_training.learner.run_log
from serl_cameras.sources.source import SourceSettings
from serl_cli.work.encoder_recipe import load_recipe
from serl_config.schema import load_yaml
from serl_config.text import printable
from serl_launch.language.launch_plan import make_plan
from serl_rl.spec import TransitionSpec
from serl_robots.model.robot import RobotModel
from serl_sim.scene.world_file import WorldFile

from serl_cli import app

SPEC = TransitionSpec({"state": ((3,), "float32")}, action_dim=2)
LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 20)
)


def header(tree: Any) -> bytes:
    """Return a safetensors file without arrays, but with this header."""
    text = tree if isinstance(tree, bytes) else json.dumps(tree).encode()
    return struct.pack("<Q", len(text)) + text


def png(width: int, height: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBBBBB", 13, b"IHDR", width, height, 8, 2, 0, 0, 0) + bytes(99)


CONTENTS: dict[str, bytes] = {
    "nothing": b"",
    "NUL": b"\0" * 300,
    "text with NUL": b"name: a\0b\n",
    "UTF-16": "name: panda\n".encode("utf-16"),
    "Latin-1": "name: é\n".encode("latin-1"),
    "a terminal's escapes": b"\x1b[2J\x1b]0;title\x07: \x1b[0m\n",
    "brackets": b"[" * 100_000,
    "braces": b'{"a":' * 100_000,
    "aliases": LAUGHS.encode(),
    "an alias of itself": b"name: &a [*a]\n",
    "50,000 keys": "".join(f"key_{i}: 1\n" for i in range(50_000)).encode(),
    "a date": b"name: 2026-01-31\n",
    "a number as a key": b"1: 2\n",
    "Python": b"name: !!python/object/apply:os.system [ls]\n",
    "two documents": b"name: a\n---\nname: b\n",
    "tabs": b"name:\n\t- a\n",
    "a list": b"- a\n- b\n",
    "XML entities": b'<!DOCTYPE a [<!ENTITY b "c">]><launch>&b;</launch>',
    "random bytes": np.random.default_rng(0).bytes(5000),
    "a pickle": pickle.dumps({"a": [1, 2, {"b": b"c"}]}),
    "a pickle that claims much": b"\x80\x04\x8e" + struct.pack("<Q", 2**60) + b"abc.",
    "a pickle of a long memo": b"\x80\x04" + b"N\x94" * 300_000 + b".",
    "a segment that claims much": b"SERLSEG1" + struct.pack("<II", 2**32 - 1, 0) + bytes(99),
    "a segment of another kind": b"SERLSEG1" + struct.pack("<II", 2, 2745614147) + b"{}",
    "safetensors of nothing": header({}),
    "safetensors that claim much": header({"a": {"dtype": "F32", "shape": [2**62], "data_offsets": [0, 2**63]}}),
    "safetensors with overflow": header({"a": {"dtype": "F32", "shape": [2**33, 2**33], "data_offsets": [0, 0]}}),
    "safetensors of deep JSON": header(b'{"a":' + b"[" * 90_000),
    "a safetensors header that claims much": struct.pack("<Q", 2**62) + b"{}",
    "safetensors with odd metadata": safetensors.numpy.save(
        {"a": np.zeros(1, np.float32)}, dict.fromkeys(("encoder", "classifier", "policy"), "[" * 50000)
    ),
    "a picture that claims much": png(60_000, 60_000),
    "JSON that is no object": b"[1, 2]",
    "JSON with NaN": b'{"format": NaN}',
    "a table": b"wall_time,env_steps,node,name,value\n1,2\n",
}


def read_run(path: Path) -> None:
    (path.parent / "config.yaml").symlink_to(path)
    serl_launch.runs.read_config(serl_launch.runs.Run(path.parent))


def read_metrics(path: Path) -> None:
    (path.parent / serl_training.learner.run_log.METRICS_FILE).symlink_to(path)
    serl_training.learner.run_log.read_metrics(path.parent)


def read_checkpoint(path: Path) -> None:
    (path.parent / "manifest.json").symlink_to(path)
    serl_rl.checkpoint.load_policy(path.parent)


def read_parameters(path: Path) -> None:
    launch = path.parent / "test.launch.xml"
    launch.write_text('<launch><node pkg="p" exec="e"><param from="$(dirname)/file"/></node></launch>')
    (path.parent / "file").symlink_to(path)
    make_plan(launch, {}, {"AMENT_PREFIX_PATH": str(installed(path.parent))}, path.parent)


def installed(folder: Path) -> Path:
    """Make a package p with an executable e."""
    marker = folder / "prefix/share/ament_index/resource_index/packages/p"
    executable = folder / "prefix/lib/p/e"
    for file in (marker, folder / "prefix/share/p/package.xml", executable):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    executable.chmod(0o755)
    return folder / "prefix"


READERS: dict[str, Callable[[Path], object]] = {
    "robot": lambda path: load_yaml(path, RobotModel),
    "world": lambda path: load_yaml(path, WorldFile),
    "recipe": lambda path: load_recipe(str(path)),
    "calibration": lambda path: serl_cameras.camera_calibration.load_calibration(str(path), "frame"),
    "launch file": lambda path: make_plan(path, {}, {}, path.parent),
    "parameters": read_parameters,
    "run": read_run,
    "metrics": read_metrics,
    "checkpoint": read_checkpoint,
    "classifier": serl_rl.reward.classifier_file.read_classifier,
    "encoder": serl_rl.encoders.file.read_encoder,
    "pickled encoder": serl_rl.encoders.resnet_params.read_pickled_arrays,
    "demonstrations": lambda path: list(serl_rl.storage.demonstrations.read_demonstrations(path, SPEC)),
    "frames": lambda path: list(serl_rl.reward.data.read_reward_data([path])),
    "camera": lambda path: serl_cameras.sources.file.FileSource(SourceSettings(path=str(path), framerate=30.0)),
}
# What a reader takes for what it is.
FINE = {
    *(("parameters", kind) for kind in ("nothing", "a date", "a number as a key", "JSON with NaN")),
    *(("run", kind) for kind in ("a date", "a number as a key", "JSON with NaN")),
    ("encoder", "safetensors of nothing"),
    *(("metrics", kind) for kind in ("nothing", "missing", "a dead link")),
}
# Large YAML takes a second: once is enough.
LARGE = ("aliases", "50,000 keys")
READS_YAML = ("world", "recipe", "calibration", "parameters", "run")
SUFFIX = {"recipe": ".yaml"}


def check(reader: str, path: Path, kind: str) -> None:
    if (reader, kind) in FINE:
        READERS[reader](path)
        return
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(Exception) as caught:
        READERS[reader](path)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    error = caught.value
    assert type(error).__module__.startswith("serl_"), f"{type(error)}: {error}"
    lines = str(error).splitlines()
    assert all(printable(line) == line for line in lines), str(error)
    assert len(lines) <= 12 and max(map(len, lines)) < 2500
    assert len(lines) == 1 or type(error).__name__ == "ConfigError"  # a line for each of the first problems
    assert printable(path.name) in str(error) or reader in ("run", "metrics", "checkpoint", "parameters"), str(error)
    assert grown < 300_000  # [kB]


@pytest.mark.parametrize("reader", READERS)
def test_odd_content(reader: str, tmp_path: Path) -> None:
    for number, (kind, content) in enumerate(CONTENTS.items()):
        if reader in READS_YAML and kind in LARGE:
            continue
        folder = tmp_path / str(number)
        folder.mkdir()
        path = folder / f"thing{SUFFIX.get(reader, '')}"
        path.write_bytes(content)
        check(reader, path, kind)


@pytest.mark.parametrize(
    "kind", ["missing", "a directory", "a FIFO", "a device", "a dead link", "12 GiB", "an odd name"]
)
@pytest.mark.parametrize("reader", READERS)
def test_odd_files(reader: str, kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"thing{SUFFIX.get(reader, '')}"
    if kind == "a directory":
        path.mkdir()
    elif kind == "a FIFO":
        os.mkfifo(path)
    elif kind == "a device":
        path.symlink_to("/dev/zero")
    elif kind == "a dead link":
        path.symlink_to("nowhere")
    elif kind == "12 GiB":
        path.touch()
        os.truncate(path, 12 * 2**30)  # sparse
    elif kind == "an odd name":
        path = tmp_path / f"a\n\x1b[2J\u202e\udcff{SUFFIX.get(reader, '')}"
        path.write_bytes(b"\0odd")
    check(reader, path, kind)


COMMANDS: dict[str, list[str]] = {
    "launch": ["launch", "FILE"],
    "launch --show-args": ["launch", "FILE", "--show-args"],
    "encoder convert": ["encoder", "convert", "FILE", "--out", "out.safetensors"],
    "encoder train": ["encoder", "train", "FILE.yaml"],
    "reward check": ["reward", "check", "FILE", "FILE"],
    "reward train": ["reward", "train", "FILE", "--out", "out.safetensors"],
    "train --classifier": ["train", "pick_cube_vision", "--reward", "classifier", "--classifier", "FILE"],
    "train --resume": ["train", "--resume", "RUN"],
    "eval": ["eval", "RUN"],
    "train TASK": ["train", "FILE"],
    "train --learning": ["train", "--learning", "FILE"],
    "train --name": ["train", "--name", "FILE"],
}
HANDED_IN = (
    "NUL",
    "brackets",
    "an alias of itself",
    "random bytes",
    "a pickle",
    "a safetensors header that claims much",
)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_command_line_says_it_in_one_line(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # pytest keeps its own handlers
    monkeypatch.delenv("SERL_DEBUG", raising=False)
    for number, kind in enumerate((*HANDED_IN, "a FIFO", "a directory", "a dead link", "an odd name")):
        run = tmp_path / f"run{number}"
        run.mkdir()
        path = run / ("a\n\x1b[2J\udcff" if kind == "an odd name" else "thing")
        if kind == "a FIFO":
            os.mkfifo(path)
        elif kind == "a directory":
            path.mkdir()
        elif kind == "a dead link":
            path.symlink_to("nowhere")
        else:
            path.write_bytes(CONTENTS.get(kind, b"\0"))
        for name in (f"{path.name}.yaml", "config.yaml"):
            (run / name).symlink_to(path.name)
        words = [word.replace("FILE", str(path)).replace("RUN", str(run)) for word in COMMANDS[command]]
        assert app.main(words) in (1, 2), kind
        _expect_line(capsys.readouterr().err)


SETTINGS = [
    "",
    "=",
    "sac.actor_lr=[",
    "sac.actor_lr=" + "[" * 50_000,
    "sac.actor_lr=&a [*a]",
    "sac=" + LAUGHS,
    "sac.actor_lr=1\0",
    "sac.actor_lr=2026-13-45",
    "sac.actor_lr=" + "9" * 9999,
    "sac.actor_lr=.nan",
    "sac.actor_lr=!!python/object:os.system x",
    "sac.actor_lr=\udcff",
    "sac.actor_lr.x=1",
    "sac.hidden_sizes=[1000000000]",
    "replay_capacity=1000000000000000",
    "replay_capacity=20 parsecs",
    "a" * 100_000 + "=1",
    ".".join("a" * 2000) + "=1",
    "\x1b[2J=1",
    ".=1",
]


@pytest.mark.parametrize("setting", SETTINGS, ids=range(len(SETTINGS)))
def test_an_odd_setting_is_one_line(
    setting: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    assert app.main(["train", "--set", setting]) == 2
    _expect_line(capsys.readouterr().err)


def _expect_line(text: str) -> None:
    (line,) = text.splitlines()
    assert line.startswith(("serl: error: ", "error: "))
    assert printable(line, 5000) == line
    assert "this is a bug" not in line
    assert len(line) < 2500
