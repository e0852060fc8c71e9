# SPDX-License-Identifier: Apache-2.0
"""The limits of a task where its file says nothing of them, and the boxes of robot and scene that it keeps out of."""

from collections.abc import Iterable
from typing import Any

from serl_config.schema import ConfigError

from serl_robots.control.task_file import TaskFile
from serl_robots.model.robot import Box, RobotModel, load_robot
from serl_robots.model.scene import load_scene


def default_limits(robot: RobotModel) -> dict[str, Any]:
    """Keys of `SafetyLimits` that are the robot's: corners of the box (base frame) and widths of the gripper [m]."""
    return {
        "workspace_min": robot.safety_box.lower,
        "workspace_max": robot.safety_box.upper,
        "min_gripper_width": robot.gripper.min_width,
        "max_gripper_width": robot.gripper.max_width,
    }


def completed(file: TaskFile, scene: str | None = None) -> dict[str, Any]:
    """The keys of a task, its limits completed by those of its robot, its `keep_out` by the boxes of robot and scene.

    Args:
        file: of the task.
        scene: name of the scene in the place of the task's own; empty: none.

    Raises:
        ConfigError: there is no such robot or scene, or its file is wrong.
    """
    data = file.data if scene is None else file.data | {"scene": scene}
    name, limits, scene = data.get("robot"), data.get("limits", {}), data.get("scene", "")
    if not (isinstance(name, str) and isinstance(limits, dict) and isinstance(scene, str)):
        return data  # refused where the task is built
    try:
        robot = load_robot(name)
    except ConfigError as error:
        raise ConfigError(f"{file.place(('robot',))}: 'robot': {error}") from error
    try:
        boxes = (*robot.keep_out.values(), *(load_scene(scene).keep_out if scene else ()))
    except ConfigError as error:
        raise ConfigError(f"{file.place(('scene',))}: 'scene': {error}") from error
    limits = default_limits(robot) | limits
    if boxes and isinstance(limits.setdefault("keep_out", []), list):  # else refused where the task is built
        limits["keep_out"] = [*limits["keep_out"], *_numbers(boxes)]
    return data | {"limits": limits}


def _numbers(boxes: Iterable[Box]) -> list[float]:
    """Boxes as `limits.keep_out` says them."""
    return [number for box in boxes for number in (*box.lower, *box.upper)]
