# SPDX-License-Identifier: Apache-2.0
"""The part of a task that the arm controller needs.

A task file `config/tasks/<name>.yaml` belongs to `serl_tasks`, which checks all of it; its task class extends
`ArmTask`. The arm controller, a floor below, reads only the keys that `ArmTask` declares.
"""

from serl_robots import resources
from serl_robots.action import ActionSpec
from serl_robots.config import ConfigError, Field, build, config, fields, line_at, read_yaml, suggestion
from serl_robots.safety import SafetyLimits

FOLDER = "config/tasks"


@config(kw_only=True)
class ArmTask:
    """How an arm is commanded in a task."""

    name: str
    robot: str = Field(description="name of the robot, config/robots/<robot>.yaml")
    control_period: float = Field(gt=0.0, le=10.0, description="time of one control step [s]")
    action: ActionSpec
    limits: SafetyLimits = SafetyLimits()


def load_arm_task(name: str) -> ArmTask:
    """`ArmTask` of `config/tasks/<name>.yaml`. Raises ConfigError when there is none or its part is wrong."""
    known = resources.listing(FOLDER, ".yaml")
    if name not in known:
        raise ConfigError(f"unknown task {name!r}" + suggestion(name, [*known]))
    path = known[name]
    data, root = read_yaml(path)
    own_keys = {field.name for field in fields(ArmTask)}
    own = {key: value for key, value in data.items() if key in own_keys}
    task = build(ArmTask, own, str(path), lambda location: line_at(root, location))
    if task.name != name:
        raise ConfigError(f"{path}: 'name': expected {name!r} as the file's name says, found {task.name!r}")
    return task
