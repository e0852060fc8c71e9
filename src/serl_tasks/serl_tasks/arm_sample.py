# SPDX-License-Identifier: Apache-2.0
"""What is measured of an arm at one moment."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from serl_robots.model.pose import Pose

TOOL = "tcp"
"""Name of the tool among the poses of objects."""


def tool_name(arm: str) -> str:
    """Name of the tool of an arm among the poses of objects: of one of several it begins with the arm's prefix."""
    return f"{arm}/{TOOL}" if arm else TOOL


def arm_topic(arm: str, name: str) -> str:
    """Name of a topic that each arm has: of one of several it is in the namespace of the arm's prefix."""
    return f"{arm}/{name}" if arm else name


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

    arms: Mapping[str, "ArmSample"] = field(default_factory=dict)
    """The samples of both where there are two arms, by their prefixes, in the frame of the world; other fields are
    those of the first one then."""

    def at_start(self) -> "ArmSample":
        """This sample before the first step of an episode, which counts from the measured pose."""
        return self.each(lambda arm: replace(arm, commanded=arm.tcp))

    def each(self, change: Callable[["ArmSample"], "ArmSample"]) -> "ArmSample":
        """This sample with a change of every arm."""
        if not self.arms:
            return change(self)
        return together({name: change(arm) for name, arm in self.arms.items()})

    def placed(self, base: Pose) -> "ArmSample":
        """This sample of one arm in the frame in which its base is at `base`."""
        linear, angular = base.rotate(self.tcp_velocity[:3]), base.rotate(self.tcp_velocity[3:])
        return replace(
            self,
            tcp=base.compose(self.tcp),
            tcp_velocity=np.concatenate([linear, angular]),
            commanded=None if self.commanded is None else base.compose(self.commanded),
        )


def together(arms: Mapping[str, ArmSample]) -> ArmSample:
    """The sample of several arms, by their prefixes, each in the frame of the world."""
    return replace(next(iter(arms.values())), arms=dict(arms))
