# SPDX-License-Identifier: Apache-2.0
"""Run directories: what they are called, what lies where, and when one is refused."""

import errno
import json
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from serl_config.atomic_files import write_whole
from serl_config.files import FileError, read_bytes, read_text
from serl_config.strict_json import JsonError, parse_json
from serl_config.strict_yaml import YamlError, parse_upstream_yaml
from serl_config.text import printable

from serl_launch.errors import CommandError, UsageError

CONFIG_HEADER = "# Everything that made this run. Written by ./serl train and read by --resume; do not edit.\n"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")


@dataclass(frozen=True)
class Run:
    """One run directory and the files that belong in it."""

    path: Path

    @property
    def name(self) -> str:
        """Last part of the path."""
        return self.path.name

    @property
    def config_file(self) -> Path:
        """Everything that was decided before the start."""
        return self.path / "config.yaml"

    @property
    def learning_file(self) -> Path:
        """The learning configuration as it is used, overrides included; the learner reads this one."""
        return self.path / "learning.yaml"

    @property
    def classifier_file(self) -> Path:
        """Copy of the reward classifier, where one judges."""
        return self.path / "classifier.safetensors"

    @property
    def result_file(self) -> Path:
        """Numbers of the end, for programs."""
        return self.path / "result.json"

    @property
    def log_dir(self) -> Path:
        """One log for each process of the graph."""
        return self.path / "log"

    @property
    def journal(self) -> Path:
        """Everything that was stored, see serl_rl.storage.journal."""
        return self.path / "journal"

    @property
    def checkpoints(self) -> Path:
        """Learner state, see serl_rl.checkpoint."""
        return self.path / "checkpoints"

    @property
    def curve_file(self) -> Path:
        """The learning curve."""
        return self.path / "learning_curve.png"

    @property
    def video_file(self) -> Path:
        """Some episodes of the final policy."""
        return self.path / "policy.mp4"


def runs_root() -> Path:
    """Folder of all runs: ``$SERL_RUNS``, or ``runs`` in the current folder."""
    return Path(os.environ.get("SERL_RUNS") or "runs")


def default_name(task: str, now: float | None = None) -> str:
    """``<task>-<YYYYmmdd-HHMMSS>``, local time."""
    return f"{task}-{time.strftime('%Y%m%d-%H%M%S', time.localtime(now))}"


def create_run(root: Path, name: str) -> Run:
    """Makes an empty run directory.

    Raises:
        UsageError: the name is not one for a folder.
        CommandError: it has something in it already, or cannot be made.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(f"run name {name!r}: expected letters, digits and . _ + -, beginning with a letter or digit")
    run = Run(root / name)
    try:
        run.path.mkdir(parents=True, exist_ok=True)
        if any(run.path.iterdir()):
            raise CommandError(
                f"{run.path} exists and is not empty: choose another --name, or continue it with --resume {run.name}"
            )
    except OSError as error:
        raise CommandError(f"cannot make the run directory {run.path}: {error.strerror}") from error
    return run


def begin_run(root: Path, task: str, now: float | None = None) -> Run:
    """Makes the directory of a run that nobody has named: two that begin in one second get different ones.

    Args:
        root: folder of all runs.
        task: name of the task.
        now: time of its name [s since 1970]; None: the present.

    Raises:
        CommandError: it cannot be made.
    """
    name, number = default_name(task, now), 1
    while True:
        run = Run(root / (name if number == 1 else f"{name}-{number}"))
        try:
            root.mkdir(parents=True, exist_ok=True)
            run.path.mkdir()
        except FileExistsError:
            if not root.is_dir():
                raise CommandError(f"cannot make the run directory {run.path}: {root} is no folder") from None
            number += 1
        except OSError as error:
            raise CommandError(f"cannot make the run directory {run.path}: {error.strerror}") from error
        else:
            return run


def find_run(root: Path, reference: str) -> Run:
    """The run that a person means by a name below `root`, or by a path.

    Raises:
        CommandError: there is none, or the folder is not one of a run.
    """
    for path in (root / reference, Path(reference)):
        if not path.is_dir():
            continue
        if not (path / "config.yaml").is_file():
            raise CommandError(f"{path} is not a run: it has no config.yaml")
        return Run(path)
    known = run_names(root)
    hint = f"there are {', '.join(known[:5])}{' ...' if len(known) > 5 else ''}" if known else "there is none at all"
    raise CommandError(f"no run {reference!r} in {root.absolute()}: {hint} (SERL_RUNS names another folder)")


def run_names(root: Path) -> list[str]:
    """Names of the runs in `root`, newest first."""
    if not root.is_dir():
        return []
    runs = [path.parent for path in root.glob("*/config.yaml")]
    return [path.name for path in sorted(runs, key=lambda path: path.stat().st_mtime, reverse=True)]


def write_config(run: Run, config: Mapping[str, Any]) -> None:
    """Writes config.yaml in one step: it is whole or not there."""
    write_atomically(run.config_file, CONFIG_HEADER + yaml.safe_dump(dict(config), sort_keys=False, width=120))


def read_config(run: Run) -> dict[str, Any]:
    """Reads config.yaml.

    Raises:
        CommandError: it cannot be read or is not what ``write_config`` writes.
    """
    try:
        config = parse_upstream_yaml(read_text(run.config_file), printable(run.config_file))
    except (FileError, YamlError) as error:
        raise CommandError(str(error)) from error
    if not isinstance(config, dict):
        raise CommandError(f"{run.config_file}: expected a mapping, found {type(config).__name__}")
    return config


def write_result(run: Run, result: Mapping[str, Any]) -> None:
    """Writes result.json in one step."""
    write_atomically(run.result_file, json.dumps(dict(result), indent=2) + "\n")


def write_atomically(path: Path, text: str) -> None:
    """Replaces `path` by `text`; a crash or a full disk leaves the old file.

    Raises:
        CommandError: it cannot be written.
    """
    try:
        write_whole(path, text.encode())
    except OSError as error:
        advice = "; free some space and try again" if error.errno == errno.ENOSPC else ""
        raise CommandError(f"{path} cannot be written: {error.strerror}{advice}") from error


def read_json_object(path: Path, size: int, wrong: str, advice: str) -> dict[str, Any] | None:
    """The JSON object in a file, None where there is no file.

    Args:
        path: of the file.
        size: most bytes that it may have.
        wrong: what it is where it holds something else, for the error.
        advice: what to do then.

    Raises:
        CommandError: it cannot be read, or holds something else.
    """
    if not path.exists():
        return None
    try:
        values = parse_json(read_bytes(path, size), size=size)
    except FileError as error:
        raise CommandError(f"{path} {wrong}: {error.reason}; {advice}") from error
    except JsonError as error:
        raise CommandError(f"{path} {wrong}: {error}; {advice}") from error
    if not isinstance(values, dict):
        raise CommandError(f"{path} {wrong}: expected a JSON object, found {type(values).__name__}; {advice}")
    return values
