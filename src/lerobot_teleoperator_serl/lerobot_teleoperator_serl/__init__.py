# SPDX-License-Identifier: Apache-2.0
"""What LeRobot finds by the name of this distribution: type `serl`, see `serl_lerobot.plugins`."""

from serl_lerobot.plugins.config_teleoperator import SerlTeleoperatorConfig
from serl_lerobot.plugins.teleoperator import SerlTeleoperator

__all__ = ["SerlTeleoperator", "SerlTeleoperatorConfig"]
