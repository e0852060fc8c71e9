# SPDX-License-Identifier: Apache-2.0
"""What LeRobot finds by the name of this distribution: type `serl`, see `serl_lerobot.plugins`."""

from serl_lerobot.plugins.camera import SerlCamera
from serl_lerobot.plugins.config_camera import SerlCameraConfig

__all__ = ["SerlCamera", "SerlCameraConfig"]
