# SPDX-License-Identifier: Apache-2.0
"""Names of files of ours, as options and as arguments of our launch files: refused in one line, before nodes say it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import get_args

from serl_config.resources import listing
from serl_config.schema import nearest, suggestion
from serl_config.text import printable
from serl_drivers.config import driver_names
from serl_drivers.ros2_control.settings import LowLevel
from serl_launch.errors import UsageError

from serl_tasks import get_task, task_names

_NO_DRIVER = "none"
TASKS = "config/tasks"  # folder of the files of tasks


def check_names(file: Path, arguments: Mapping[str, str]) -> bool:
    """Refuse names that nothing has; arguments of launch files of others may mean something else.

    Args:
        file: that is launched.
        arguments: of it, by their names, with their defaults.

    Returns:
        Whether it is a launch file of ours.

    Raises:
        UsageError: says what there is, and what is nearest to what was given.
        ConfigError: the file of a task is wrong.
    """
    if file.name not in [each.name for each in listing("launch", ".xml").values()]:
        return False
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
    return True


def check_effect(given: Sequence[str], side: str) -> str:
    """Refuse arguments of a launch file of ours that change nothing: what would take them is not started.

    Args:
        given: names of these arguments; may be none.
        side: of two machines, which are given the same arguments: there it is said, and nothing is refused.

    Returns:
        What is to be said, empty where there is nothing.

    Raises:
        UsageError: names them.
    """
    if not given:
        return ""
    text = f"{', '.join(f'{name}:=' for name in given)}: what takes this is not started with these arguments"
    if side in ("robot", "learner"):
        return f"{text}, but perhaps on the other machine"
    if any(name.startswith("agentlace") for name in given):
        text += "; learner.launch.xml has it, and side:=learner"
    raise UsageError(text)


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


def check_task(name: str) -> None:
    """Raises UsageError unless there is a task of this name."""
    tasks = task_names()
    if name not in tasks:
        raise UsageError(f"no task {name!r}{suggestion(name, tasks)}")


def on_robot(name: str, robot: str, option: str = "--robot ") -> str:
    """Name of the task that is the task `name` for `robot`: `NAME_ROBOT`, or itself where it is of that robot anyway.

    Args:
        name: of the task.
        robot: empty: its own.
        option: as the robot was asked for.

    Raises:
        UsageError: there is no such task, or none of it for this robot; says for which there are.
        ConfigError: the file of a task is wrong.
    """
    check_task(name)
    if not robot or get_task(name).robot == robot:
        return name
    known = {get_task(name).robot: name}
    for other in task_names():
        if other.startswith(f"{name}_") and other == f"{name}_{get_task(other).robot}":
            known[get_task(other).robot] = other
    if robot not in known:
        raise UsageError(
            f"{option}{printable(robot, 80)}: expected a robot that there is a version of {name!r} for, one of "
            f"{', '.join(known)}{nearest(robot, [*known])}; for another one write {TASKS}/{name}_ROBOT.yaml, which "
            f"extends {name!r}"
        )
    return known[robot]


def _check_version(task: str, robot: str, own_robot: str) -> None:
    """The launch files take TASK_ROBOT, or the task where its name has the robot or needs none: that has to be it."""
    check_name("task:=", task, task_names())
    taken = task if robot == own_robot or f"_{robot}" in task else f"{task}_{robot}"
    if on_robot(task, robot, "robot:=") != taken:
        raise UsageError(f"robot:={robot}: the task {task!r} is of this robot anyway; leave robot:= out")
