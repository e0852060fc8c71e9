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

    def at_start(self) -> "ArmSample":
        """This sample before the first step of an episode, which counts from the measured pose."""
        return replace(self, commanded=self.tcp)
