# SPDX-License-Identifier: Apache-2.0
"""Messages of the arm controller's node: read into its own values, and filled in."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from serl_config.text import printable

from serl_interfaces.msg import ActionCommand
from serl_robots.control.arbitration import ActionInput
from serl_robots.model.pose import Pose


def action_input(message: ActionCommand) -> ActionInput:
    """What a message on `policy/action` or `teleop/action` says."""
    stamp = message.header.stamp
    return ActionInput(
        message.episode,
        message.step,
        tuple(message.action),
        stamp.sec * 1_000_000_000 + stamp.nanosec,
        message.active,
        message.synchronous,
        message.sender,
        message.priority,
    )


def read_pose(message: Any) -> Pose:
    """A geometry_msgs/Pose.

    Raises:
        PoseError: a number is not finite, or the quaternion is not of unit length.
    """
    position, orientation = message.position, message.orientation
    return Pose((position.x, position.y, position.z), (orientation.x, orientation.y, orientation.z, orientation.w))


def read_joints(message: Any, joints: Sequence[str]) -> NDArray[np.float64]:
    """Positions (n,) [rad] of `joints` in a sensor_msgs/JointState, in their order.

    Raises:
        ValueError: it does not tell each of them once, or tells something that is not finite.
    """
    names, positions = list(message.name), list(message.position)
    if sorted(names) != sorted(joints) or len(positions) != len(names):
        raise ValueError(
            f"expected one position for each of {', '.join(joints)}, found {len(positions)} positions "
            f"for {', '.join(names) or 'no joints'}"
        )
    if not all(map(math.isfinite, positions)):
        raise ValueError(f"expected finite positions, found {positions}")
    known = dict(zip(names, positions, strict=True))
    return np.array([known[name] for name in joints])


def called(sender: str) -> str:
    """A sender of a person's actions, in words."""
    return printable(repr(sender)) if sender else "a sender without a name"


def fill_pose(message: Any, pose: Pose) -> None:
    """Write a pose into a geometry_msgs/Pose."""
    position, orientation = message.position, message.orientation
    position.x, position.y, position.z = pose.position.tolist()
    orientation.x, orientation.y, orientation.z, orientation.w = pose.quaternion.tolist()
