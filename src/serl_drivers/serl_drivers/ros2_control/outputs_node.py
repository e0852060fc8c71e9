# SPDX-License-Identifier: Apache-2.0
"""How joint targets are told to a controller of ros2_control: what is published, and where."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Protocol

from geometry_msgs.msg import PoseStamped
from rclpy.node import Node
from serl_robots.arm_messages_node import fill_pose
from serl_robots.model.gripper import Gripper
from serl_robots.model.kinematics import Kinematics
from serl_robots.model.robot import RobotModel
from serl_ros.qos import RELIABLE_1
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from serl_drivers.device import Joints
from serl_drivers.ros2_control.settings import Ros2ControlSettings


class Output(Protocol):
    """Tells a controller where to go."""

    @property
    def topic(self) -> str:
        """Full name of what it publishes on."""

    def send(self, positions: Joints, width: float) -> None:
        """Go to `positions` (n,) [rad], in the robot's order; `width` [m] is for a controller that has the gripper."""


class _JointOrder:
    """The values of a controller's joints in its own order."""

    def __init__(self, names: Sequence[str], arm_joints: Sequence[str], gripper: Gripper) -> None:
        self._gripper = gripper
        self._places = [arm_joints.index(name) if name in arm_joints else None for name in names]

    def values(self, positions: Joints, width: float) -> array[float]:
        finger = self._gripper.position(width)
        return array("d", [finger if place is None else float(positions[place]) for place in self._places])


class JointTrajectoryOutput:
    """One point a target, to be reached in `lead`: the controller goes there from where it commands the joints."""

    def __init__(self, node: Node, settings: Ros2ControlSettings, names: Sequence[str], robot: RobotModel) -> None:
        """Publish for a joint_trajectory_controller of the joints `names`."""
        self._order = _JointOrder(names, robot.arm_joints, robot.gripper)
        self._point = JointTrajectoryPoint()
        self._point.time_from_start.nanosec = round(settings.lead * 1e9)
        self._message = JointTrajectory(joint_names=list(names), points=[self._point])
        self._publisher = node.create_publisher(
            JointTrajectory, f"{settings.joint_trajectory_controller}/joint_trajectory", RELIABLE_1
        )
        self.topic = self._publisher.topic_name

    def send(self, positions: Joints, width: float) -> None:
        """See `Output`; the stamp stays 0, which is now."""
        self._point.positions = self._order.values(positions, width)
        self._publisher.publish(self._message)


class ForwardPositionOutput:
    """Positions in the order of the controller's `joints`."""

    def __init__(self, node: Node, settings: Ros2ControlSettings, names: Sequence[str], robot: RobotModel) -> None:
        """Publish for a forward_command_controller, or JointGroupPositionController, of the joints `names`."""
        self._order = _JointOrder(names, robot.arm_joints, robot.gripper)
        self._publisher = node.create_publisher(
            Float64MultiArray, f"{settings.forward_position_controller}/commands", RELIABLE_1
        )
        self.topic = self._publisher.topic_name

    def send(self, positions: Joints, width: float) -> None:
        """See `Output`."""
        self._publisher.publish(Float64MultiArray(data=self._order.values(positions, width)))


class PoseOutput:
    """Poses of the tool centre point in the base frame, for Cartesian controllers, which clip the error themselves."""

    def __init__(self, node: Node, settings: Ros2ControlSettings, base_frame: str, kinematics: Kinematics) -> None:
        """Publish poses in `base_frame`; `kinematics` is used by `send` alone."""
        self._node, self._kinematics = node, kinematics
        self._message = PoseStamped()
        self._message.header.frame_id = base_frame
        self._publisher = node.create_publisher(PoseStamped, settings.target_pose, RELIABLE_1)
        self.topic = self._publisher.topic_name

    def send(self, positions: Joints, width: float) -> None:
        """See `Output`; where the elbow goes is the controller's."""
        self._message.header.stamp = self._node.get_clock().now().to_msg()
        fill_pose(self._message.pose, self._kinematics.tcp(positions))
        self._publisher.publish(self._message)
