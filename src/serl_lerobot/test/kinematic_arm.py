# SPDX-License-Identifier: Apache-2.0
"""A robot with LeRobot's interface that is where it was sent, in a time that passes when somebody sleeps."""

# ruff: noqa: D102

from typing import Any

import numpy as np
from serl_lerobot.robots.environment import WallTime


class Clock:
    """Time of a test."""

    def __init__(self) -> None:
        self.now = 100.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    @property
    def wall(self) -> WallTime:
        return WallTime(lambda: self.now, self.sleep)


class KinematicArm:
    """Joints in degrees and a gripper of 0 to 100, as LeRobot's robots have them, with cameras or without."""

    name = "kinematic_arm"
    is_calibrated = True

    def __init__(self, joints: tuple[str, ...], degrees: list[float], cameras: tuple[str, ...] = ()) -> None:
        self.state = {f"{name}.pos": value for name, value in zip(joints, degrees, strict=True)} | {"gripper.pos": 50.0}
        self.action_features = dict.fromkeys(self.state, float)
        self.observation_features = {**self.action_features, **dict.fromkeys(cameras, (48, 64, 3))}
        self.is_connected = self.is_stuck = self.is_gone = False
        self.sent: list[dict[str, float]] = []
        self.cameras = {name: object() for name in cameras}

    def connect(self, calibrate: bool = True) -> None:
        self.is_connected = True

    def disconnect(self) -> None:
        self.is_connected = False

    def get_observation(self) -> dict[str, Any]:
        if self.is_gone:
            raise ConnectionError("no status packet")
        return {**self.state, **{name: np.full((48, 64, 3), 7, np.uint8) for name in self.cameras}}

    def send_action(self, action: dict[str, float]) -> dict[str, float]:
        if self.is_gone:
            raise ConnectionError("no status packet")
        self.sent.append(action)
        if not self.is_stuck:
            self.state = dict(action)
        return action
