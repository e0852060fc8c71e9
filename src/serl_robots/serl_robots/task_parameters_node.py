# SPDX-License-Identifier: Apache-2.0
"""The parameters that say what the arm is there for and what it may do."""

from dataclasses import replace

from rclpy.node import Node
from serl_config.schema import build, fields
from serl_ros.parameters import declare

from serl_robots.control.arm_task import ArmTask, load_arm_task
from serl_robots.control.task_file import task_files
from serl_robots.safety.limits import SafetyLimits

_NO_SCENE = "none"


def declare_task_and_scene(node: Node) -> ArmTask:
    """The task of parameter `task`, that keeps out of the scene of parameter `scene`.

    Raises:
        ValueError: a parameter or a file cannot be used.
    """
    name = declare(node, "task", "pick_cube", "Task: a file in config/tasks.", choices=[*task_files()])
    scene = declare(
        node,
        "scene",
        "",
        f"Scene to keep out of: a file in config/scenes; empty: the task's own; {_NO_SCENE}: without.",
    )
    return load_arm_task(name, {"": None, _NO_SCENE: ""}.get(scene, scene))


def declare_task(node: Node) -> ArmTask:
    """The task of `declare_task_and_scene`, with the limits that parameters `limits.<field>` override.

    Raises:
        ValueError: a parameter or a file cannot be used.
    """
    task = declare_task_and_scene(node)
    values = {}
    for field in fields(SafetyLimits):
        value = getattr(task.limits, field.name)
        default = list(value) if isinstance(value, tuple) else value
        values[field.name] = declare(
            node, f"limits.{field.name}", default, f"{field.description}; default: the task's.", range=field.range
        )
        if not isinstance(default, float):
            values[field.name] = [*values[field.name]]
    limits = build(SafetyLimits, values, f"parameters limits.* of node '{node.get_name()}'")
    return replace(task, limits=limits)
