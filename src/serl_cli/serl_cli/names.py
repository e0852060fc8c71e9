# SPDX-License-Identifier: Apache-2.0
"""Arguments of our launch files that name a file of ours: refused in one line, before ten nodes say it one by one."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import get_args

from serl_config.resources import listing
from serl_config.schema import nearest
from serl_config.text import printable
from serl_drivers.config import driver_names
from serl_drivers.ros2_control.settings import LowLevel
from serl_launch.errors import UsageError

from serl_tasks import get_task, task_names

_NO_DRIVER = "none"


def check_names(file: Path, arguments: Mapping[str, str]) -> None:
    """Refuse names that nothing has; arguments of launch files of others may mean something else.

    Args:
        file: that is launched.
        arguments: of it, by their names, with their defaults.

    Raises:
        UsageError: says what there is, and what is nearest to what was given.
        ConfigError: the file of a task is wrong.
    """
    if file.name not in [each.name for each in listing("launch", ".xml").values()]:
        return
    task, robot, learning = (arguments.get(name, "") for name in ("task", "robot", "learning"))
    known: dict[str, Sequence[str]] = {
        "robot": robot_names(),
        "partner": task_names(),
        "driver": [*driver_names(), _NO_DRIVER],
        "low_level": get_args(LowLevel),
        "scene": [*listing("config/scenes", ".yaml")],
        "learning": [*listing("config/learning", ".yaml")],
    }
    check_name("robot:=", robot, known.pop("robot"))
    if not robot:
        check_name("task:=", task, task_names())
    elif task:
        _check_version(task, robot, arguments.get("own_robot", ""))
    if "/" in learning or learning.endswith(".yaml"):  # a path
        del known["learning"]
    for argument, names in known.items():
        check_name(f"{argument}:=", arguments.get(argument, ""), names)


def check_name(option: str, given: str, known: Sequence[str]) -> None:
    """Refuse a name that nothing has; an empty one is none.

    Args:
        option: as it was written, as `robot:=` or `--robot `.
        given: name behind it.
        known: names that there are.

    Raises:
        UsageError: says these, and which is nearest.
    """
    if given and given not in known:
        there = ", ".join(known) or "none"
        raise UsageError(f"{option}{printable(given, 80)}: there are {there}{nearest(given, known)}")


def robot_names() -> list[str]:
    """Files of `config/robots`."""
    return [*listing("config/robots", ".yaml")]


def _check_version(task: str, robot: str, own_robot: str) -> None:
    """The rule of the launch files: TASK_ROBOT, or the task where its name has the robot or needs none."""
    tasks = task_names()
    version = task if robot == own_robot or f"_{robot}" in task else f"{task}_{robot}"
    if version in tasks and get_task(version).robot == robot:
        return
    check_name("task:=", task, tasks)
    if get_task(task).robot == robot:
        raise UsageError(f"robot:={robot}: the task {task!r} is of this robot anyway; leave robot:= out")
    versions = [get_task(each).robot for each in tasks if each == f"{task}_{get_task(each).robot}"]
    there = f"one of {', '.join(versions)}" if versions else "and there is none"
    raise UsageError(
        f"robot:={robot}: expected a robot that there is a version of {task!r} for, {there}; for another one write "
        f"config/tasks/{task}_{robot}.yaml, which extends {task!r}"
    )
