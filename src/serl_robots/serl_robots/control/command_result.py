# SPDX-License-Identifier: Apache-2.0
"""What one control step commands."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from serl_robots.model.pose import Pose


class CommandResult(NamedTuple):
    """What one control step commands. Where the joints are commanded, `target` is where they lead the tool."""

    target: Pose
    gripper_width: float  # [m]
    executed: NDArray[np.float32]  # the normalized action that it amounts to, float32 (n,) in [-1, 1]
    limits: tuple[str, ...]  # names of the limits that acted
    joint_positions: NDArray[np.float64] | None = None  # (n_joints,) [rad]; commanded instead of the tool pose
