# SPDX-License-Identifier: Apache-2.0
"""From the graph's messages to what tasks and experts work on.

Works on anything with the fields of the message, so that this package needs no ROS.
"""

from typing import Any

import numpy as np
from serl_robots.pose import Pose

from serl_tasks.observation import ArmSample


def pose_from_message(message: Any) -> Pose:
    """Convert a geometry_msgs/Pose."""
    position, orientation = message.position, message.orientation
    return Pose(
        np.array([position.x, position.y, position.z]),
        np.array([orientation.x, orientation.y, orientation.z, orientation.w]),
    )


def arm_sample(state: Any) -> ArmSample:
    """Read a serl_interfaces/ArmState."""
    linear, angular = state.tcp_velocity.linear, state.tcp_velocity.angular
    return ArmSample(
        tcp=pose_from_message(state.tcp_pose),
        tcp_velocity=np.array([linear.x, linear.y, linear.z, angular.x, angular.y, angular.z]),
        gripper_width=state.gripper_width,
        gripper_target=state.gripper_target,
    )


def object_poses(world: Any) -> dict[str, Pose]:
    """Read the poses of a serl_interfaces/WorldState by name."""
    return {name: pose_from_message(pose) for name, pose in zip(world.names, world.poses, strict=True)}


def nanoseconds(stamp: Any) -> int:
    """Read a builtin_interfaces/Time as integer nanoseconds."""
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)
