# SPDX-License-Identifier: Apache-2.0
"""Who simulates the world of a task, and with which Python."""

import sys
from pathlib import Path

from serl_tasks.kinds.gym import GymTask

from serl_launch.errors import CommandError, UsageError
from serl_tasks import get_task


def world_arguments(task_name: str, *, viewer: bool = False) -> dict[str, str]:
    """Arguments of `sim.launch.xml` that say who simulates the world of a task.

    Args:
        task_name: name of the task.
        viewer: whether MuJoCo's window opens, which only our own worlds have.

    Raises:
        UsageError: a window of a world that others wrote is asked for.
        CommandError: it is one that others wrote, and its virtual environment is not there.
    """
    task = get_task(task_name)
    if not isinstance(task, GymTask):
        arms = {"arms": "two"} if task.arms else {}
        return {"world": "mujoco", "headless": str(not viewer).lower(), **arms}
    if viewer:
        raise UsageError(f"--viewer: the world of {task_name} is a Gymnasium environment, which has no window here")
    package = task.environment.package
    return {"world": "gym"} if package is None else {"world": "gym", "gym_python": str(gym_python(package))}


def gym_python(package: str) -> Path:
    """Interpreter of the virtual environment that ``./serl setup gym PACKAGE`` makes beside that of the workspace.

    Raises:
        CommandError: it is not there.
    """
    python = Path(f"{sys.prefix}-gym-{package}") / "bin" / "python"
    if not python.is_file():
        raise CommandError(
            f"the world {package} is not set up: expected {python}, found none; run ./serl setup gym {package}"
        )
    return python
