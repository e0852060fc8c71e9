# SPDX-License-Identifier: Apache-2.0
"""How an open hand that points down gets around something and closes, read off the state: for scripted experts."""

import math
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from serl_tasks.arm_sample import ArmSample

_APPROACH: Final = 0.06  # height from which the open fingers come down [m]
_ALIGNED: Final = 0.012  # largest horizontal distance at which they come down, and close, where nobody says [m]
_OPEN: Final = 0.012  # by how much fingers that come down have to be farther apart than what they grip [m]
_LEVEL: Final = 0.012  # vertical distance at which they close [m]
_LOST: Final = 0.03  # distance at which what closed fingers hold is something else [m]
_GRIPPED: Final = 0.004  # by how much fingers that hold it may be farther apart than it is wide [m]
_LAG: Final = 0.05  # how far the commanded tool is ahead of the measured one [s]


class Reach(NamedTuple):
    """What a hand does next."""

    way: NDArray[np.float64]
    """(3,) of the tool [m]."""
    closed: bool
    """Whether the fingers should be closed."""
    holds: bool
    """Whether they hold it."""


def commanded_tool(arm: ArmSample) -> NDArray[np.float64]:
    """About where the tool is commanded to be (3,) [m], from where it is and how fast."""
    return arm.tcp.position + _LAG * arm.tcp_velocity[:3]


def reach(arm: ArmSample, point: NDArray[np.float64], width: float, aligned: float = _ALIGNED) -> Reach:
    """Go above a point, down, and close around what is there; it may take over at any time.

    Args:
        arm: that reaches.
        point: (3,) where it should hold [m].
        width: of what is there, between the fingers [m].
        aligned: largest horizontal distance from `point` at which it comes down, and closes [m].
    """
    tool = commanded_tool(arm)
    dx, dy, dz = (point - arm.tcp.position).tolist()
    horizontal, vertical = math.hypot(dx, dy), abs(dz)
    closing = arm.gripper_target < 0.9 * width
    if closing and horizontal < _LOST and vertical < _LOST:
        return Reach(point - tool, True, arm.gripper_width < width + _GRIPPED)
    if horizontal < aligned and vertical < _LEVEL:
        return Reach(point - tool, True, False)
    is_open = arm.gripper_width > width + _OPEN
    if is_open and math.hypot(*(point - tool)[:2].tolist()) < aligned:
        return Reach(point - tool, False, False)
    above = point + np.array((0.0, 0.0, _APPROACH)) - tool
    if above[2] > 0.02:  # first up, or the fingers push it away
        above[:2] = 0.0
    return Reach(above, False, False)
