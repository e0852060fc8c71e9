# SPDX-License-Identifier: Apache-2.0
"""Messages of the arm controller's node: read into its own values, and filled in."""

from typing import Any

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


def called(sender: str) -> str:
    """A sender of a person's actions, in words."""
    return printable(repr(sender)) if sender else "a sender without a name"


def fill_pose(message: Any, pose: Pose) -> None:
    """Write a pose into a geometry_msgs/Pose."""
    position, orientation = message.position, message.orientation
    position.x, position.y, position.z = pose.position.tolist()
    orientation.x, orientation.y, orientation.z, orientation.w = pose.quaternion.tolist()
