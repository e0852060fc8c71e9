# SPDX-License-Identifier: Apache-2.0
"""The joints of a simulated arm as hardware of ros2_control: the topics of its topic-based hardware interface.

What `joint_state_topic_hardware_interface/JointStateTopicSystem` of topic_based_hardware_interfaces writes and reads:
the positions that controllers command, in a `JointState` whose first names belong to its positions, and measured ones.
"""

from typing import Final

import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import JointState
from serl_robots.model.joint_trajectory import JointTrajectoryPlan
from serl_ros.incoming import subscribe
from serl_ros.qos import RELIABLE_1

from serl_sim.simulation import Simulation

COMMANDS: Final = "robot_joint_commands"
STATES: Final = "robot_joint_states"


class JointCommands:
    """Leads a simulated arm where controllers command its joints and its gripper."""

    def __init__(self, node: Node, simulation: Simulation) -> None:
        """Listen on `robot_joint_commands`, of a world that runs by itself."""
        self._simulation = simulation
        robot = simulation.world.robot
        self._arm, self._gripper = robot.arm_joints, robot.gripper
        self.subscription = subscribe(node, JointState, COMMANDS, self._on_command, RELIABLE_1, ValueError)

    def _on_command(self, message: JointState) -> None:
        """Raises ValueError: a joint of the arm is missing, or a value is none."""
        # joints that follow another one have a name there, and no position
        found = dict(zip(message.name, message.position, strict=False))
        missing = [name for name in self._arm if name not in found]
        if missing:
            raise ValueError(f"expected a position of each of {', '.join(self._arm)}, found none of {missing[0]}")
        positions = np.array([found[name] for name in self._arm])
        finger = found.get(self._gripper.joints[0])
        if not np.isfinite(positions).all() or (finger is not None and not np.isfinite(finger)):
            raise ValueError(f"expected finite positions, found {found}")
        low, high = self._simulation.world.arm_limits.T
        self._simulation.command_trajectory(JointTrajectoryPlan.hold(np.clip(positions, low, high)))
        if finger is not None:
            width = self._gripper.width([finger] * len(self._gripper.joints))
            self._simulation.command_width(self._gripper.within(width))
