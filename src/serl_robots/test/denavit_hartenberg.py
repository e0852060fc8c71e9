# SPDX-License-Identifier: Apache-2.0
"""Forward kinematics from tables of Denavit-Hartenberg parameters, which vendors publish, and from nothing else."""

import math
from collections.abc import Sequence

import numpy as np

Row = tuple[float, float, float]
"""a [m], d [m], alpha [rad] of one joint."""


def craig(a: float, d: float, alpha: float, theta: float) -> np.ndarray:
    """One joint by modified parameters: a turn by `alpha` and a step `a` along x, then `theta` and `d` along z; 4x4."""
    ca, sa, ct, st = math.cos(alpha), math.sin(alpha), math.cos(theta), math.sin(theta)
    return np.array(
        [[ct, -st, 0.0, a], [st * ca, ct * ca, -sa, -d * sa], [st * sa, ct * sa, ca, d * ca], [0.0, 0.0, 0.0, 1.0]]
    )


def chain(rows: Sequence[Row], angles: Sequence[float]) -> np.ndarray:
    """Pose of the last joint's frame in the base frame, 4x4, at joint `angles` [rad]."""
    pose = np.eye(4)
    for (a, d, alpha), theta in zip(rows, angles, strict=True):
        pose = pose @ craig(a, d, alpha, theta)
    return pose


# Panda and Research 3 of Franka Robotics, "Robot and interface specifications".
FRANKA = [
    (0.0, 0.333, 0.0),
    (0.0, 0.0, -math.pi / 2),
    (0.0, 0.316, math.pi / 2),
    (0.0825, 0.0, math.pi / 2),
    (-0.0825, 0.384, -math.pi / 2),
    (0.0, 0.0, math.pi / 2),
    (0.088, 0.0, math.pi / 2),
]
FLANGE, HAND_YAW, TOOL = 0.107, -math.pi / 4, 0.1034


def franka_tool(q: Sequence[float]) -> np.ndarray:
    """Pose of the tool centre point of a Franka Hand in the base frame, 4x4."""
    return chain(FRANKA, q) @ craig(0.0, FLANGE, 0.0, HAND_YAW) @ craig(0.0, TOOL, 0.0, 0.0)
