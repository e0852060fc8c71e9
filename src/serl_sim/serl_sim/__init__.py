# SPDX-License-Identifier: Apache-2.0
"""MuJoCo worlds, Gymnasium environments and the MuJoCo bridge node.

Importing this package registers ``PandaPickCube-v0`` and ``PandaPickCubeVision-v0`` with Gymnasium.
"""

from typing import TYPE_CHECKING, Any

import gymnasium

if TYPE_CHECKING:
    from serl_sim.envs import TaskEnv

__all__ = ["make"]

_ENTRY_POINT = "serl_sim.envs:TaskEnv"

gymnasium.register("PandaPickCube-v0", entry_point=_ENTRY_POINT, kwargs={"task": "pick_cube"})
gymnasium.register("PandaPickCubeVision-v0", entry_point=_ENTRY_POINT, kwargs={"task": "pick_cube_vision"})


def make(task: str, **kwargs: Any) -> "TaskEnv":
    """Environment of a task by the task's name, without Gymnasium's wrappers.

    Args:
        task: name of a registered task.
        kwargs: see :class:`serl_sim.envs.TaskEnv`.
    """
    from serl_sim.envs import TaskEnv

    return TaskEnv(task, **kwargs)
