# SPDX-License-Identifier: Apache-2.0
"""Options of LeRobot's `--teleop.type=serl`."""

from dataclasses import dataclass

from lerobot.teleoperators import TeleoperatorConfig


@TeleoperatorConfig.register_subclass("serl")
@dataclass(kw_only=True)
class SerlTeleoperatorConfig(TeleoperatorConfig):
    """Which running graph has the person; that of the robot `serl` in the same process."""

    task: str
    """Task that the graph was started for."""
    namespace: str = ""
    """Namespace of the arm."""
