# SPDX-License-Identifier: Apache-2.0
"""What an arm's weight asks of its motors, from its description."""

from collections.abc import Sequence

import mujoco
import numpy as np
from numpy.typing import NDArray
from serl_robots.model.robot import RobotModel


def gravity_torques(robot: RobotModel, positions: Sequence[float]) -> NDArray[np.float64]:
    """Torques with which the motors hold an arm at rest, with nothing in its hand.

    Args:
        robot: whose arm it is.
        positions: of its joints in the order of ``robot.joints`` (n,): arm and rotary jaw [rad], fingers [m].

    Returns:
        (n,) [Nm], of fingers [N], positive along the joint's axis.

    Raises:
        ValueError: another number of positions.
    """
    if len(positions) != len(robot.joints):
        raise ValueError(f"expected {len(robot.joints)} positions, found {len(positions)}")
    model = mujoco.MjSpec.from_string(robot.urdf_xml()).compile()
    data = mujoco.MjData(model)
    joints = [model.joint(name) for name in robot.joints]
    for joint, position in zip(joints, positions, strict=True):
        data.qpos[joint.qposadr[0]] = position
    mujoco.mj_forward(model, data)
    return np.array([data.qfrc_bias[joint.dofadr[0]] for joint in joints])
