# SPDX-License-Identifier: Apache-2.0
"""What is measured of an arm at one moment."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from serl_robots.model.pose import Pose

TOOL = "tcp"
"""Name of the tool among the poses of objects."""


@dataclass(frozen=True)
class ArmSample:
    """What an observation needs of the arm, measured at one moment."""

    tcp: Pose
    """Tool centre point in the base frame."""
    tcp_velocity: NDArray[np.float64]
    """(6,) linear [m/s], then angular [rad/s], in the base frame."""
    gripper_width: float
    """Measured distance of the fingers [m]."""
    gripper_target: float
    """Commanded distance of the fingers [m]."""
    commanded: Pose | None = None
    """Commanded pose of the tool in the base frame, where somebody tells."""
    joint_positions: NDArray[np.float64] | None = None
    """(n,) of the arm's joints [rad], where somebody tells."""
    joint_velocities: NDArray[np.float64] | None = None
    """(n,) of the arm's joints [rad/s], where somebody tells."""
    wrench: NDArray[np.float64] | None = None
    """(6,) force [N], then torque about the tool centre point [Nm], that the world exerts on the tool, in the axes of
    the tool; without gravity. Where a task observes it; the scripted person of a graph is not told."""

    def at_start(self) -> "ArmSample":
        """This sample before the first step of an episode, which counts from the measured pose."""
        return replace(self, commanded=self.tcp)
