# SPDX-License-Identifier: Apache-2.0
"""Options of LeRobot's `--robot.type=serl`."""

from dataclasses import dataclass

from lerobot.robots import RobotConfig


@RobotConfig.register_subclass("serl")
@dataclass(kw_only=True)
class SerlRobotConfig(RobotConfig):
    """Which running graph the robot stands for."""

    task: str
    """Task that the graph was started for."""
    namespace: str = ""
    """Namespace of the arm."""
    lockstep: bool = False
    """Whether the world waits for each action: a simulation with `real_time_factor` 0."""
    truth: bool = True
    """Whether somebody publishes the true poses of the objects; nobody does for a real arm."""
