# SPDX-License-Identifier: Apache-2.0
"""The part of a task that the arm controller needs.

A task file `config/tasks/<name>.yaml` belongs to `serl_tasks`, which checks all of it; its task class extends
`ArmTask`. The arm controller, a floor below, reads only the keys that `ArmTask` declares.
"""

from serl_config.schema import Field, build, config, fields

from serl_robots.control.action import GRIPPER, ActionSpec, Frame
from serl_robots.control.robot_limits import completed
from serl_robots.control.task_file import read_task
from serl_robots.safety.limits import SafetyLimits


@config(kw_only=True)
class ArmTask:
    """How an arm is commanded in a task."""

    name: str
    robot: str = Field(description="name of the robot, config/robots/<robot>.yaml")
    control_period: float = Field(gt=0.0, le=10.0, description="time of one control step [s]")
    action: ActionSpec
    frame: Frame = Field(
        default="base",
        description="of the tool's deltas and of what is observed: the base, or the tool and where it was at the start",
    )
    limits: SafetyLimits = Field(description="what it says nothing of comes from the robot, then from the defaults")

    def asked_widths(self) -> dict[str, float]:
        """Every opening of the gripper that the task asks for [m], by the key of its file that says so."""
        widths = {
            "limits.min_gripper_width": self.limits.min_gripper_width,
            "limits.max_gripper_width": self.limits.max_gripper_width,
        }
        if self.action.gripper is not None:
            widths[f"action.scale of {GRIPPER}"] = self.action.gripper[1]
        return widths


def load_arm_task(name: str) -> ArmTask:
    """`ArmTask` of `config/tasks/<name>.yaml`. Raises ConfigError when there is none or its part is wrong."""
    file = read_task(name)
    own_keys = {field.name for field in fields(ArmTask)}
    part = {key: value for key, value in completed(file).items() if key in own_keys}
    return build(ArmTask, part, str(file.path), file.place)
