# SPDX-License-Identifier: Apache-2.0
"""The kinds of devices, by the names that files of `config/drivers` use."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final

from serl_robots.model.robot import RobotModel

from serl_drivers.device import ArmDevice

KINDS: Final[Mapping[str, str]] = {
    "mock": "serl_drivers.mock",
    "feetech": "serl_drivers.feetech.device",
    "franka": "serl_drivers.franka.device",
    "lerobot": "serl_lerobot.robots.device",
    "piper": "serl_drivers.piper.device",
    "ros2_control": "serl_drivers.ros2_control.device_node",
    "serl_server": "serl_drivers.serl_server.device",
    "trossen": "serl_drivers.trossen.device",
}
"""Module of each. It has `make(robot, settings, source)`, and imports what its vendor needs in `connect`."""


NEEDS: Final[Mapping[str, tuple[str, str]]] = {
    "franka": ("franky", "franka"),
    "lerobot": ("lerobot", "lerobot"),
    "piper": ("piper_sdk", "piper"),
    "trossen": ("trossen_arm", "trossen"),
}
"""Module of the vendor that a kind imports in `connect`, and what `./serl setup` calls the part that brings it."""


def make_device(kind: str, robot: RobotModel, settings: Mapping[str, Any], source: str) -> ArmDevice:
    """A device that is not connected yet.

    Args:
        kind: one of `KINDS`.
        robot: that it is.
        settings: of the device.
        source: file of the settings, for people.

    Raises:
        ConfigError: the settings are not what the device knows.
    """
    device: ArmDevice = import_module(KINDS[kind]).make(robot, settings, source)
    return device
