# SPDX-License-Identifier: Apache-2.0
"""Tasks by name. A name is a file ``config/tasks/<name>.yaml``, whose ``kind`` names a class."""

from functools import cache

from serl_config.schema import ConfigError, build
from serl_robots.control.robot_limits import completed
from serl_robots.control.task_file import read_task, task_files
from serl_robots.control.task_robot import robot_of

from serl_tasks.kind_registry import KindError, find_kind
from serl_tasks.task import Task


def task_names() -> tuple[str, ...]:
    """Names of all tasks, sorted."""
    return tuple(task_files())


@cache
def get_task(name: str) -> Task:
    """Load a task.

    Raises:
        ConfigError: there is no such task (the message lists those there are), its file or one that it extends is
            wrong, its kind cannot be had, or its robot cannot do what it asks for.
    """
    file = read_task(name)
    data = completed(file)
    try:
        cls = find_kind(data.get("kind"))
    except KindError as error:
        raise ConfigError(f"{file.place(('kind',))}: 'kind': {error}") from error
    task = build(cls, data, str(file.path), file.place)
    robot = robot_of(task)
    try:
        task.check_joints(len(robot.arm_joints))
    except ValueError as error:
        raise ConfigError(f"{file.place(('state',))}: 'state': {error}") from error
    return task
