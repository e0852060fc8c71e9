# SPDX-License-Identifier: Apache-2.0
"""Kinematics of a leader arm, by its file in `config/robots`: where its tool is, and the joints for a pose."""

from __future__ import annotations

from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray
from serl_robots.model.kinematics import Kinematics
from serl_robots.model.pose import Pose

Joints = NDArray[np.float64]
"""Angles (n,) [rad]."""

SERVO_LEADER: Final = "so101"
"""File in `config/robots` of the arm that a servo leader is unless somebody says otherwise: its joints are those of the
follower, their zeros and signs as LeRobot calibrates both, and the handle is where the jaw is."""

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


class RobotChain:
    """An arm that has a file in `config/robots`; see `LeaderKinematics`."""

    def __init__(self, kinematics: Kinematics) -> None:
        """Use the kinematics of its URDF."""
        self._kinematics = kinematics

    def tcp(self, joints: Joints) -> Pose:
        """Pose of the tool for angles (n,) [rad]."""
        return self._kinematics.tcp(joints)

    def differential(self, joints: Joints) -> tuple[Pose, NDArray[np.float64]]:
        """Pose of the tool, and its Jacobian (6, n)."""
        return self._kinematics.tcp(joints), self._kinematics.jacobian(joints)


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
