# SPDX-License-Identifier: Apache-2.0
"""What two arms of a task have to know of each other."""

from serl_robots.control.arm_task import ArmTask
from serl_robots.model.kinematics import Kinematics
from serl_robots.safety.keep_apart import KeepApart


def other_arm(task: ArmTask, arm: str) -> str | None:
    """Prefix of the arm beside `arm`; None where there is none."""
    return next((name for name in task.arm_names if name != arm), None)


def keep_apart_of(task: ArmTask, arm: str, kinematics: Kinematics) -> KeepApart | None:
    """What keeps the hand of one of two arms away from that of the other; None of a single arm.

    Raises:
        ValueError: the limits do not let a tool stop within a control period.
    """
    other = other_arm(task, arm)
    if other is None or task.keep_apart is None:
        return None
    return KeepApart(
        task.keep_apart, task.base(arm), task.base(other), kinematics.wrist, task.limits, task.control_period
    )
