# SPDX-License-Identifier: Apache-2.0
"""What a task's reward classifier sees: the same pictures as the policy."""

from __future__ import annotations

from serl_rl.reward.data import STAGES, FrameSource, View
from serl_rl.spec import DataError

from serl_tasks import Task


def frame_source(task: Task, stages: tuple[str, ...] = STAGES) -> FrameSource:
    """Cameras with their crops, and stages, of frames of a task.

    Raises:
        DataError: the task has no cameras.
    """
    if not task.cameras:
        raise DataError(f"task {task.name}", "cameras, which a reward classifier looks through", "none")
    views = {name: View(*view.size, view.crop) for name, view in task.cameras.items()}
    return FrameSource(task.name, views, stages)


def check_source(where: str, found: FrameSource, expected: FrameSource) -> None:
    """Raise DataError unless frames or a classifier, from `where`, are of this task, its cameras and its crops."""
    if found.task != expected.task:
        raise DataError(where, f"task {expected.task}", f"task {found.task}")
    for name in sorted(expected.views.keys() | found.views.keys()):
        if found.views.get(name) != expected.views.get(name):
            raise DataError(
                where,
                f"camera {name} as the task has it now, {expected.views.get(name, 'not at all')}",
                f"{found.views.get(name, 'nothing of it')}; record and train anew",
            )
    if found.stages != expected.stages:
        raise DataError(where, f"stages {', '.join(expected.stages)}", ", ".join(found.stages))
