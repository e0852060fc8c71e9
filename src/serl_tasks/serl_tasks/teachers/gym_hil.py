# SPDX-License-Identifier: Apache-2.0
"""Who picks up the block of gym-hil, as the task `gym-hil-pick-cube` has it."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from serl_robots.model.pose import Pose

from serl_tasks.arm_sample import ArmSample

_STEP = 0.025  # [m] that an action of 1 moves the tool: action.scale of the task
_ABOVE = 0.06  # [m] over the block while the tool goes there
_NEAR, _OVER = 0.04, 0.015  # [m] beside the block: where the tool stays up, and where it goes down
_LOW = 0.012  # [m] above the block's middle, from where the hand closes
_HELD = 0.03  # [m] between tool and block
_CLOSED = 0.05  # [m], half of the hand's opening


class PickTeacher:
    """Goes above the block, down, closes, lifts."""

    def reset(self) -> None:
        """Nothing to forget."""

    def act(self, arm: ArmSample, objects: Mapping[str, Pose]) -> NDArray[np.float64]:
        """Action (4,): x, y, z, gripper."""
        way = objects["block"].position - arm.tcp.position
        beside = float(np.linalg.norm(way[:2]))
        if arm.gripper_width < _CLOSED and np.linalg.norm(way) < _HELD:
            return np.array([0.0, 0.0, 1.0, -1.0])
        opening = 1.0
        if beside > _OVER:
            way[2] = way[2] + _ABOVE if beside > _NEAR else 0.0
        elif way[2] >= -_LOW:
            opening = -1.0
        return np.append(np.clip(way / _STEP, -1.0, 1.0), opening)
