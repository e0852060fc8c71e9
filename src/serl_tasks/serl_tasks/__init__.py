# SPDX-License-Identifier: Apache-2.0
"""Tasks: spaces, observations, rewards, limits and scripted experts, without ROS and without a simulator."""

from serl_tasks.arm_sample import ArmSample
from serl_tasks.kind_registry import register
from serl_tasks.registry import get_task, task_names
from serl_tasks.task import Expert, Judgement, Task, with_noise

__all__ = ["ArmSample", "Expert", "Judgement", "Task", "get_task", "register", "task_names", "with_noise"]
