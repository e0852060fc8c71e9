# SPDX-License-Identifier: Apache-2.0
"""``serl config import``: settings of another stack become a task's file and a file of learning settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml
from serl_config.atomic_files import write_whole
from serl_config.files import FileError, read_bytes
from serl_config.schema import ConfigError, build
from serl_config.strict_json import JsonError, parse_json
from serl_config.text import printable, shown
from serl_launch.errors import CommandError
from serl_rl.config import LearningConfig
from serl_robots.control.robot_limits import completed
from serl_robots.control.task_file import read_task, task_files
from serl_tasks.kind_registry import find_kind

from serl_cli.work.foreign.errors import SettingError
from serl_cli.work.foreign.hilserl import robot_of, translate
from serl_cli.work.foreign.settings import Outcome

MAX_BYTES = 2**20
_BASE = "pick_cube_vision"
_HEAD = "# SPDX-License-Identifier: Apache-2.0\n# Taken over from {} by ./serl config import.\n"


def import_settings(
    source: Path, base: str, name: str, out: Path, skip_unknown: bool, say: Callable[[str], None]
) -> None:
    """Write the task and the learning settings that a JSON file of LeRobot's HIL-SERL says, and say what became of it.

    Args:
        source: `train_config.json`, `env_config.json` or `train_hilserl*.json`.
        base: name of the task that is extended; empty: one that suits the robot.
        name: of both files.
        out: folder in which config/tasks and config/learning are or become.
        skip_unknown: list settings that nobody knows, instead of refusing them.
        say: prints a line.

    Raises:
        CommandError: the file or a setting cannot be used, or there are such files already. Nothing is written then.
    """
    try:
        settings = parse_json(read_bytes(source, MAX_BYTES))
    except FileError as error:
        raise CommandError(str(error)) from error
    except JsonError as error:
        raise CommandError(f"{printable(source)}: {error}") from error
    if not isinstance(settings, dict) or not settings.keys() & {"policy", "env"}:
        raise CommandError(f"{printable(source)}: expected settings with policy or env, found {shown(settings)}")
    try:
        of_robot = f"{_BASE}_{robot_of(settings)}"
        extended = base or (of_robot if of_robot in task_files() else _BASE)
        result = translate(settings, completed(read_task(extended)), skip_unknown=skip_unknown)
        build(LearningConfig, result.learning, "the learning settings")
        build(find_kind(result.task["kind"]), {**result.task, "name": name}, "the task")
    except (SettingError, ConfigError) as error:
        raise CommandError(f"{printable(source)}: {error}") from error
    own = {key: result.task[key] for key in result.task if key in result.changed}
    description = f"As {extended}, with what {printable(source.name)} says."
    task = {"name": name, "extends": extended, "description": description, "learning": name, **own}
    # The learning settings first: a task of which they are missing could not be used.
    files = {out / "config/learning" / f"{name}.yaml": result.learning, out / "config/tasks" / f"{name}.yaml": task}
    for path in files:
        if path.exists():
            raise CommandError(f"{path} exists: choose another --name or --out")
    for outcome in result.outcomes:
        say(_line(outcome))
    head = _HEAD.format(printable(source.name))
    _write_all(
        {
            path: head + yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=120)
            for path, content in files.items()
        }
    )
    kept = sum(bool(outcome.target) for outcome in result.outcomes)
    say(f"{kept} settings were taken over, {len(result.outcomes) - kept} have no counterpart")
    say(f"{' and '.join(map(str, files))} are written: read them, then ./serl train {name}")


def _write_all(texts: Mapping[Path, str]) -> None:
    """Write new files, all or none. Raises CommandError."""
    written: list[Path] = []
    try:
        for path, text in texts.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, text.encode())
            written.append(path)
    except OSError as error:
        for each in written:
            each.unlink()
        raise CommandError(f"{path} cannot be written: {error.strerror}") from error


def _line(outcome: Outcome) -> str:
    found = f"{printable(outcome.setting)} = {_short(outcome.value)}"
    reason = f" ({outcome.reason})" if outcome.reason and outcome.target else outcome.reason
    return f"{found} -> {printable(outcome.target)}{reason}" if outcome.target else f"{found} -> nothing: {reason}"


def _short(value: Any) -> str:
    text = printable(str(value))
    return text if len(text) <= 60 else f"{text[:57]}..."
