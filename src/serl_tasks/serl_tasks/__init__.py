# SPDX-License-Identifier: Apache-2.0
"""Tasks: spaces, observations, rewards, limits and scripted experts, without ROS and without a simulator."""

from serl_tasks.kinds import pick_cube as _pick_cube  # registers its kind
from serl_tasks.observation import ArmSample
from serl_tasks.registry import get_task, register, task_names
from serl_tasks.task import Expert, Judgement, Task

__all__ = ["ArmSample", "Expert", "Judgement", "Task", "get_task", "register", "task_names"]

del _pick_cube
