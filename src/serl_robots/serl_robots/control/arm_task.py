# SPDX-License-Identifier: Apache-2.0
"""The part of a task that the arm controller needs.

A task file `config/tasks/<name>.yaml` belongs to `serl_tasks`, which checks all of it; its task class extends
`ArmTask`. The arm controller, a floor below, reads only the keys that `ArmTask` declares.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from serl_config.schema import ConfigError, Field, Location, build, config, fields, line_at, read_yaml, suggestion

from serl_config import resources
from serl_robots.control.action import ActionSpec
from serl_robots.safety.filter import SafetyLimits

FOLDER = "config/tasks"


@dataclass(frozen=True)
class TaskFile:
    """A task as its file, and the one it extends, say."""

    path: Path
    data: dict[str, Any]
    root: yaml.Node

    def line(self, location: Location) -> int | None:
        """Line in the file of what is at `location`, None where it comes from the extended one."""
        return line_at(self.root, location)


@config(kw_only=True)
class ArmTask:
    """How an arm is commanded in a task."""

    name: str
    robot: str = Field(description="name of the robot, config/robots/<robot>.yaml")
    control_period: float = Field(gt=0.0, le=10.0, description="time of one control step [s]")
    action: ActionSpec
    limits: SafetyLimits = SafetyLimits()


def read_task(name: str) -> TaskFile:
    """Read `config/tasks/<name>.yaml` and what it extends.

    A file with `extends: <other>` has the keys of that task and its own, which come first.

    Raises:
        ConfigError: there is no such task (the message lists those there are), or the file cannot be used.
    """
    known = resources.listing(FOLDER, ".yaml")
    if name not in known:
        raise ConfigError(f"unknown task {name!r}" + suggestion(name, [*known]))
    path = known[name]
    data, root = read_yaml(path)
    if data.get("name") != name:
        raise ConfigError(f"{path}: 'name': expected {name!r} as the file's name says, found {data.get('name')!r}")
    base = data.pop("extends", None)
    if base is not None:
        if not isinstance(base, str) or base not in known or base == name:
            raise ConfigError(f"{path}: 'extends': expected another task, found {base!r}")
        extended, _ = read_yaml(known[base])
        if "extends" in extended:
            raise ConfigError(f"{path}: 'extends': {base} extends a task itself; extend {extended['extends']!r}")
        data = extended | data
    return TaskFile(path, data, root)


def load_arm_task(name: str) -> ArmTask:
    """`ArmTask` of `config/tasks/<name>.yaml`. Raises ConfigError when there is none or its part is wrong."""
    file = read_task(name)
    own_keys = {field.name for field in fields(ArmTask)}
    own = {key: value for key, value in file.data.items() if key in own_keys}
    return build(ArmTask, own, str(file.path), file.line)
