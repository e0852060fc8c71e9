# SPDX-License-Identifier: Apache-2.0
"""The limits of a task where its file says nothing of them: those that are the robot's own."""

from typing import Any

from serl_config.schema import ConfigError

from serl_robots.control.task_file import TaskFile
from serl_robots.model.robot import RobotModel, load_robot


def default_limits(robot: RobotModel) -> dict[str, Any]:
    """Keys of `SafetyLimits` that are the robot's: corners of the box (base frame) and widths of the gripper [m]."""
    return {
        "workspace_min": robot.safety_box.lower,
        "workspace_max": robot.safety_box.upper,
        "min_gripper_width": robot.gripper.min_width,
        "max_gripper_width": robot.gripper.max_width,
    }


def completed(file: TaskFile) -> dict[str, Any]:
    """The keys of a task, its limits completed by those of its robot.

    Raises:
        ConfigError: there is no such robot, or its file is wrong.
    """
    data = file.data
    name, limits = data.get("robot"), data.get("limits", {})
    if not (isinstance(name, str) and isinstance(limits, dict)):
        return data  # refused where the task is built
    try:
        robot = load_robot(name)
    except ConfigError as error:
        raise ConfigError(f"{file.place(('robot',))}: 'robot': {error}") from error
    return data | {"limits": default_limits(robot) | limits}
