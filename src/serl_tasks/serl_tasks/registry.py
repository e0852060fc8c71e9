# SPDX-License-Identifier: Apache-2.0
"""Tasks by name. A name is a file ``config/tasks/<name>.yaml``; its ``kind`` is a class registered here."""

from collections.abc import Callable
from functools import cache
from typing import TypeVar

from serl_config.schema import ConfigError, build
from serl_robots.control.arm_task import FOLDER, read_task

from serl_config import resources
from serl_tasks.task import Task

TaskClass = TypeVar("TaskClass", bound=type[Task])

_KINDS: dict[str, type[Task]] = {}


def register(kind: str) -> Callable[[TaskClass], TaskClass]:
    """Class decorator: let task files say ``kind: <kind>`` for this class.

    Raises:
        ValueError: another class has that name.
    """

    def add(cls: TaskClass) -> TaskClass:
        if _KINDS.setdefault(kind, cls) is not cls:
            raise ValueError(f"task kind {kind!r} is registered already, for {_KINDS[kind].__qualname__}")
        return cls

    return add


def task_names() -> tuple[str, ...]:
    """Names of all tasks, sorted."""
    return tuple(resources.listing(FOLDER, ".yaml"))


@cache
def get_task(name: str) -> Task:
    """Load a task.

    Raises:
        ConfigError: there is no such task (the message lists those there are), or its file is wrong.
    """
    file = read_task(name)
    kind = file.data.get("kind")
    if kind not in _KINDS:
        raise ConfigError(f"{file.path}: 'kind': expected one of {', '.join(_KINDS)}, found {kind!r}")
    return build(_KINDS[kind], file.data, str(file.path), file.line)
