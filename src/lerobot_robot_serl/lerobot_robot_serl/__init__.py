# SPDX-License-Identifier: Apache-2.0
"""What LeRobot finds by the name of this distribution: type `serl`, see `serl_lerobot.plugins`."""

from serl_lerobot.plugins.config_robot import SerlRobotConfig
from serl_lerobot.plugins.robot import SerlRobot

__all__ = ["SerlRobot", "SerlRobotConfig"]
