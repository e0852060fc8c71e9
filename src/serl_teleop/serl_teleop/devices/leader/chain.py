# SPDX-License-Identifier: Apache-2.0
"""Kinematics of a leader arm: where its tool is, and the joints for a pose.

A serial chain is a product of exponentials of its joints' screws at zero (Lynch and Park, Modern Robotics, 2017,
section 4.1). An arm that has a file in `config/robots` brings its own by MuJoCo.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from serl_robots.model.kinematics import Kinematics
from serl_robots.model.pose import Pose, quaternion_from_matrix

Joints = NDArray[np.float64]
"""Angles (n,) [rad]."""

_DAMPING: Final = 1e-3
"""Of the least squares: a pose out of reach is approached, and no joint runs away near a singularity."""
_LARGEST_STEP: Final = 0.3  # [rad] in one iteration, as far as the linearisation is believed


class LeaderKinematics(Protocol):
    """Where the tool of an arm is, in the frame of its own base."""

    def tcp(self, joints: Joints) -> Pose:
        """Pose of the tool for angles (n,) [rad]."""

    def differential(self, joints: Joints) -> tuple[Pose, NDArray[np.float64]]:
        """Pose of the tool for angles (n,) [rad], and its Jacobian (6, n).

        The Jacobian gives linear [m/rad], then angular [rad/rad] velocity, along the base's axes.
        """


@dataclass(frozen=True)
class Chain:
    """A serial chain of revolute joints; see `LeaderKinematics`."""

    axes: tuple[tuple[float, float, float], ...]
    """Unit axes of the joints at zero, in the frame of the base."""
    points: tuple[tuple[float, float, float], ...]
    """A point on each axis [m]."""
    zero: Pose
    """Pose of the tool where all joints are at zero."""
    _skews: NDArray[np.float64] = field(init=False, repr=False, compare=False)
    _squares: NDArray[np.float64] = field(init=False, repr=False, compare=False)
    _zero_rotation: NDArray[np.float64] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        skews = np.stack([_skew(axis) for axis in self.axes])
        object.__setattr__(self, "_skews", skews)
        object.__setattr__(self, "_squares", skews @ skews)
        object.__setattr__(self, "_zero_rotation", self.zero.rotation_matrix())

    def tcp(self, joints: Joints) -> Pose:
        """Pose of the tool for angles (n,) [rad]."""
        return self.differential(joints)[0]

    def differential(self, joints: Joints) -> tuple[Pose, NDArray[np.float64]]:
        """Pose of the tool, and its Jacobian (6, n); see `LeaderKinematics`."""
        rotation, position = np.eye(3), np.zeros(3)
        axes, points = np.array(self.axes), np.array(self.points)
        moved_axes, moved_points = np.empty_like(axes), np.empty_like(points)
        for index, turn in enumerate(self._turns(joints)):
            point = points[index]
            moved_axes[index], moved_points[index] = rotation @ axes[index], position + rotation @ point
            position = position + rotation @ (point - turn @ point)
            rotation = rotation @ turn
        tool = position + rotation @ self.zero.position
        x, y, z = tool.tolist()
        pose = Pose.trusted((x, y, z), quaternion_from_matrix(rotation @ self._zero_rotation))
        return pose, np.concatenate([np.cross(moved_axes, tool - moved_points), moved_axes], axis=1).T

    def _turns(self, joints: ArrayLike) -> NDArray[np.float64]:
        """Rotations (n, 3, 3) about the axes, by Rodrigues' formula."""
        angles = np.asarray(joints, dtype=np.float64)[:, None, None]
        return np.eye(3) + np.sin(angles) * self._skews + (1.0 - np.cos(angles)) * self._squares


class RobotChain:
    """An arm that has a file in `config/robots`; see `LeaderKinematics`."""

    def __init__(self, kinematics: Kinematics) -> None:
        """Use the kinematics of its URDF."""
        self._kinematics, self._rows = kinematics, np.eye(len(kinematics.joints))

    def tcp(self, joints: Joints) -> Pose:
        """Pose of the tool for angles (n,) [rad]."""
        return self._kinematics.tcp(joints)

    def differential(self, joints: Joints) -> tuple[Pose, NDArray[np.float64]]:
        """Pose of the tool, and its Jacobian (6, n)."""
        columns = [self._kinematics.tcp_velocity(joints, row) for row in self._rows]
        return self._kinematics.tcp(joints), np.stack(columns, axis=1)


def solve(
    kinematics: LeaderKinematics,
    goal: Pose,
    start: Joints,
    lower: Joints,
    upper: Joints,
    *,
    turn_weight: float,
    iterations: int = 1,
) -> Joints:
    """Angles (n,) [rad] near `start`, within their ranges, that lead the tool near a pose, by damped least squares.

    Args:
        kinematics: of the arm.
        goal: pose of the tool in the frame of the arm's base.
        start: to begin at: the last result, where this is called again and again, so that one iteration is enough.
        lower: smallest angles (n,).
        upper: largest angles (n,).
        turn_weight: [m/rad] that an error of orientation counts as one of position: what an arm of five joints cannot
            have both of.
        iterations: of Newton's method.
    """
    weights = np.array([1.0, 1.0, 1.0, turn_weight, turn_weight, turn_weight])
    joints = start
    for _ in range(iterations):
        tcp, slope = kinematics.differential(joints)
        error = weights * np.concatenate([goal.position - tcp.position, tcp.rotation_vector_to(goal)])
        jacobian = weights[:, None] * slope
        square = jacobian.T @ jacobian + _DAMPING * turn_weight * np.eye(len(joints))
        step = np.linalg.solve(square, jacobian.T @ error)
        largest = float(np.abs(step).max())
        joints = np.clip(joints + step * min(1.0, _LARGEST_STEP / max(largest, 1e-9)), lower, upper)
    return joints


def _skew(axis: Sequence[float]) -> NDArray[np.float64]:
    x, y, z = axis
    return np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])


SO_ARM: Final = Chain(
    axes=((0.0, 0.0, -1.0), (0.0, 1.0, 0.0), (0.0, 1.0, 0.0), (0.0, 1.0, 0.0), (-1.0, 0.0, 0.0)),
    points=(
        (0.0388, 0.0, 0.0624),
        (0.0692, 0.0, 0.1166),
        (0.0972, 0.0, 0.2292),
        (0.2321, 0.0, 0.2344),
        (0.2932, 0.0, 0.2344),
    ),
    zero=Pose((0.3914, 0.0, 0.2265), (0.70710678, 0.0, 0.70710678, 0.0)),
)
"""An SO-101, leader or follower, from base to tool: x is forward where its joints are in the middle of their ranges, as
LeRobot calibrates them; the tool's z is the direction of approach. Lengths are those of the arm's drawings [m]."""
