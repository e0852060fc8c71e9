# SPDX-License-Identifier: Apache-2.0
"""What tasks and experts work on, read out of the graph's messages.

Works on anything with the fields of the message, so that this package needs no ROS.
"""

import math
from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray
from serl_robots.model.pose import Pose, PoseError

from serl_tasks.arm_sample import ArmSample

_LARGEST = 1000.0  # [m], [m/s], [rad/s]: what is larger is no arm
_LARGEST_WRENCH = 1e5  # [N], [Nm]
_MOST_OBJECTS = 1000
_MOST_METRICS = 1000
_LONGEST_NAME = 200  # characters
_LARGEST_STEP = 2**53


class MessageError(ValueError):
    """A message that cannot be used: names the field, what was expected and what was found."""


def pose_from_message(message: Any, field: str = "pose") -> Pose:
    """Convert a geometry_msgs/Pose, the field `field` of a message.

    Raises:
        MessageError: a number is not finite or farther than 1000 m away, or the quaternion is not of unit length.
    """
    position, orientation = message.position, message.orientation
    try:
        pose = Pose(
            np.array([position.x, position.y, position.z]),
            np.array([orientation.x, orientation.y, orientation.z, orientation.w]),
        )
    except PoseError as error:
        raise MessageError(f"{field}: {error}") from error
    if max(abs(position.x), abs(position.y), abs(position.z)) > _LARGEST:
        raise MessageError(f"{field}: expected a position within {_LARGEST:g} m, found {pose.position.tolist()}")
    return pose


def arm_sample(state: Any) -> ArmSample:
    """Read a serl_interfaces/ArmState.

    Raises:
        MessageError: a pose is none, or a number is not finite or larger than any arm's.
    """
    linear, angular = state.tcp_velocity.linear, state.tcp_velocity.angular
    velocity = (linear.x, linear.y, linear.z, angular.x, angular.y, angular.z)
    numbers = (*velocity, state.gripper_width, state.gripper_target)
    if not max(map(abs, numbers)) <= _LARGEST or not math.isfinite(sum(numbers)):
        raise MessageError(
            f"tcp_velocity, gripper_width, gripper_target: expected numbers within {_LARGEST:g}, found {list(numbers)}"
        )
    return ArmSample(
        tcp=pose_from_message(state.tcp_pose, "tcp_pose"),
        tcp_velocity=np.array(velocity),
        gripper_width=state.gripper_width,
        gripper_target=state.gripper_target,
        commanded=pose_from_message(state.target_pose, "target_pose"),
        joint_positions=_joint_values(state.joint_positions, "joint_positions"),
        joint_velocities=_joint_values(state.joint_velocities, "joint_velocities"),
    )


def _joint_values(numbers: Any, field: str) -> NDArray[np.float64]:
    values = np.array(numbers, np.float64)
    if values.size and not np.abs(values).max() <= _LARGEST:
        raise MessageError(f"{field}: expected numbers within {_LARGEST:g}, found {values.tolist()[:20]}")
    return values


def wrench_values(message: Any, tool_frame: str) -> NDArray[np.float64]:
    """Read a geometry_msgs/WrenchStamped: force [N], then torque [Nm], float64 (6,), in the frame of the tool.

    Args:
        message: whose frame is `tool_frame`, with any prefix.
        tool_frame: name of the frame of the tool.

    Raises:
        MessageError: it is of another frame, or a number is not finite or larger than any arm's.
    """
    if not message.header.frame_id.endswith(tool_frame):
        raise MessageError(
            f"header.frame_id: expected {tool_frame!r}, the tool's, found {message.header.frame_id[:100]!r}; let the "
            "driver give force and torque in that frame"
        )
    force, torque = message.wrench.force, message.wrench.torque
    values = np.array([force.x, force.y, force.z, torque.x, torque.y, torque.z])
    if not np.abs(values).max() <= _LARGEST_WRENCH:
        raise MessageError(f"wrench: expected numbers within {_LARGEST_WRENCH:g} N and Nm, found {values.tolist()}")
    return values


def object_poses(world: Any, needed: Collection[str] = ()) -> dict[str, Pose]:
    """Read the poses of a serl_interfaces/WorldState by name.

    Args:
        world: the message.
        needed: names without which it is of no use.

    Raises:
        MessageError: names and poses are not as many, a name is there twice or missing, or a pose is none.
    """
    names, poses = world.names, world.poses
    if len(names) != len(poses) or len(names) > _MOST_OBJECTS:
        raise MessageError(
            f"names, poses: expected as many of each, at most {_MOST_OBJECTS}, found {len(names)} and {len(poses)}"
        )
    found = {name: pose_from_message(pose, f"poses[{name!r}]") for name, pose in zip(names, poses, strict=True)}
    if len(found) != len(names):
        raise MessageError(f"names: expected each once, found {', '.join(names)}")
    missing = [name for name in needed if name not in found]
    if missing:
        raise MessageError(f"names: expected {', '.join(missing)} among them, found {', '.join(names) or 'none'}")
    return found


def metric_values(metrics: Any) -> dict[str, float]:
    """Read the numbers of a serl_interfaces/Metrics by name.

    Raises:
        MessageError: names and values are not as many, or a name, the node or the number of steps is none.
    """
    names, values = metrics.names, metrics.values
    if len(names) != len(values) or len(names) > _MOST_METRICS:
        raise MessageError(
            f"names, values: expected as many of each, at most {_MOST_METRICS}, found {len(names)} and {len(values)}"
        )
    for name in (metrics.node, *names):
        if not (0 < len(name) <= _LONGEST_NAME and name.isprintable()):
            raise MessageError(
                f"node, names: expected 1 to {_LONGEST_NAME} printable characters, found {name[:50]!r} ({len(name)})"
            )
    if metrics.env_steps > _LARGEST_STEP:
        raise MessageError(f"env_steps: expected at most {_LARGEST_STEP}, found {metrics.env_steps}")
    return dict(zip(names, values, strict=True))


def nanoseconds(stamp: Any) -> int:
    """Read a builtin_interfaces/Time as integer nanoseconds.

    Raises:
        MessageError: it is before 1970, or has more than a second of nanoseconds.
    """
    seconds, rest = int(stamp.sec), int(stamp.nanosec)
    if seconds < 0 or rest >= 1_000_000_000:
        raise MessageError(f"stamp: expected sec from 0, nanosec below 1000000000, found {seconds} and {rest}")
    return seconds * 1_000_000_000 + rest
