# SPDX-License-Identifier: Apache-2.0
"""MuJoCo worlds, Gymnasium environments and the MuJoCo bridge node.

Importing this package registers every task with Gymnasium: `insert_peg` as ``serl/InsertPeg-v0``, `insert_peg_vision`
as ``serl/InsertPegVision-v0``; one whose name is not of letters, digits and _ alone is had by `make` only.
``PandaPickCube-v0`` and ``PandaPickCubeVision-v0`` are older names of two of them.
"""

import re
from typing import TYPE_CHECKING, Any

import gymnasium

from serl_tasks import task_names

if TYPE_CHECKING:
    from serl_sim.envs import TaskEnv

__all__ = ["environment_id", "make"]

_ENTRY_POINT = "serl_sim.envs:TaskEnv"


def environment_id(task: str) -> str:
    """Name under which Gymnasium knows a task."""
    return f"serl/{''.join(word.capitalize() for word in task.split('_'))}-v0"


gymnasium.register("PandaPickCube-v0", entry_point=_ENTRY_POINT, kwargs={"task": "pick_cube"})
gymnasium.register("PandaPickCubeVision-v0", entry_point=_ENTRY_POINT, kwargs={"task": "pick_cube_vision"})
for _name in task_names():
    if re.fullmatch(r"[A-Za-z0-9_]+", _name):
        gymnasium.register(environment_id(_name), entry_point=_ENTRY_POINT, kwargs={"task": _name})


def make(task: str, **kwargs: Any) -> "TaskEnv":
    """Environment of a task by the task's name, without Gymnasium's wrappers.

    Args:
        task: name of a registered task.
        kwargs: see :class:`serl_sim.envs.TaskEnv`.
    """
    from serl_sim.envs import TaskEnv

    return TaskEnv(task, **kwargs)
