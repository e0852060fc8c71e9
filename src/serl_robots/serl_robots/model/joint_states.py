# SPDX-License-Identifier: Apache-2.0
"""Reads the joints of one robot out of `joint_states`, whatever else is in there and in whatever order."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from serl_robots.model.kinematics import Kinematics
from serl_robots.model.robot import RobotModel

_TOO_WIDE = 2.0  # times the width of the gripper: no measurement any more, and nothing to hold the gripper at
_JOINT_MARGIN = 0.2  # [rad] beyond its limits that a joint may be measured


class JointStateError(ValueError):
    """A message that does not tell where the arm is."""


class JointReading(NamedTuple):
    """Joints of the robot at one moment."""

    positions: NDArray[np.float64]  # arm joints (n_joints,) [rad]
    velocities: NDArray[np.float64]  # arm joints (n_joints,) [rad/s]
    gripper_width: float  # [m]
    efforts: tuple[float, ...] | None = None  # arm joints (n_joints,) [Nm], where they are told


class JointStateReader:
    """Puts the values of `sensor_msgs/JointState` in the robot's order."""

    def __init__(self, robot: RobotModel, kinematics: Kinematics) -> None:
        """Read the joints of `robot`, whose `kinematics` know their limits."""
        self._robot = robot
        self._lowest, self._highest = kinematics.lower - _JOINT_MARGIN, kinematics.upper + _JOINT_MARGIN
        self._gripper = robot.gripper
        self._widest = _TOO_WIDE * robot.gripper.max_width
        self._names: Sequence[str] | None = None
        self._arm = np.zeros(len(robot.arm_joints), dtype=np.intp)
        self._fingers = np.zeros(len(robot.gripper.joints), dtype=np.intp)

    def read(self, message: Any) -> JointReading:
        """The robot's joints.

        Raises:
            JointStateError: a joint is missing, has no position or velocity, a value is not finite, or a joint or the
                fingers are where they cannot be: such numbers are damage, and nothing may be commanded from there.
        """
        if message.name != self._names:
            self._learn(message.name)
        positions = np.asarray(message.position, dtype=np.float64)
        velocities = np.asarray(message.velocity, dtype=np.float64)
        if not len(positions) == len(velocities) == len(message.name):
            raise JointStateError(
                f"expected a position and a velocity for each of {len(message.name)} joints, found {len(positions)} "
                f"positions and {len(velocities)} velocities"
            )
        arm, speeds = positions[self._arm], velocities[self._arm]
        width = self._gripper.width(positions[self._fingers].tolist())
        if not math.isfinite(float(arm.sum()) + float(speeds.sum()) + width):
            raise JointStateError(
                f"expected finite values, found positions {arm.tolist()}, velocities {speeds.tolist()}"
            )
        if not -self._widest <= width <= self._widest:
            raise JointStateError(
                f"expected fingers that open at most {self._gripper.max_width} m (gripper.max_width of "
                f"{self._robot.name!r}), found {width} m"
            )
        beyond = (arm < self._lowest) | (arm > self._highest)
        if beyond.any():
            index = int(np.argmax(beyond))
            raise JointStateError(
                f"expected joint {self._robot.arm_joints[index]} in [{self._lowest[index]:.2f}, "
                f"{self._highest[index]:.2f}] rad, found {arm[index]:g}"
            )
        efforts = None
        if len(message.effort) == len(positions):
            told = np.asarray(message.effort, dtype=np.float64)[self._arm]
            efforts = tuple(told.tolist()) if np.isfinite(told).all() else None
        return JointReading(arm, speeds, width, efforts)

    def _learn(self, names: Sequence[str]) -> None:
        index = {name: number for number, name in enumerate(names)}
        missing = [name for name in self._robot.joints if name not in index]
        if missing:
            raise JointStateError(f"joints {', '.join(missing)} are missing; found {', '.join(names) or 'none'}")
        self._arm = np.array([index[name] for name in self._robot.arm_joints], dtype=np.intp)
        self._fingers = np.array([index[name] for name in self._gripper.joints], dtype=np.intp)
        self._names = list(names)
