# SPDX-License-Identifier: Apache-2.0
"""The simulated arm as hardware of ros2_control, whose topic-based plugin has a stand-in here."""

import sys
from xml.etree import ElementTree

import numpy as np
import pytest
import xacro

from serl_config import resources

pytest.importorskip("rclpy")
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import JointState
from serl_robots.model.robot import load_robot

pytest.importorskip("serl_interfaces.msg", reason="the workspace is not built")

BRIDGE = (sys.executable, "-c", "from serl_sim.mujoco_bridge_node import main; main()", "--ros-args")
THRESHOLD = 1e-5  # of the sum of differences, below which nothing is written


class TopicBasedHardware:
    """What `joint_state_topic_hardware_interface/JointStateTopicSystem` does between its controllers and its topics.

    Written from its source (0630c94): commands begin at the `initial_value` of the command interface; a command has the
    names of all joints, and positions of those alone that have a command interface; it is written while it differs.
    """

    def __init__(self, ros, robot):
        mappings = {"hardware": "topic_based"}
        urdf = xacro.process_file(str(resources.find(robot.urdf)), mappings=mappings).toxml()
        (system,) = ElementTree.fromstring(urdf).findall("ros2_control")
        assert system.findtext("hardware/plugin") == "joint_state_topic_hardware_interface/JointStateTopicSystem"
        topics = {each.get("name"): each.text for each in system.findall("hardware/param")}
        self.names = [joint.get("name") for joint in system.findall("joint")]
        self.commands = {
            joint.get("name"): float(joint.findtext("command_interface/param"))
            for joint in system.findall("joint")
            if joint.find("command_interface") is not None
        }
        self.states = {}
        self.node = ros.node("hardware")
        self.node.create_subscription(
            JointState, topics["joint_states_topic"], self._on_states, qos_profile_sensor_data
        )
        self.publisher = self.node.create_publisher(JointState, topics["joint_commands_topic"], 1)
        self.node.create_timer(0.01, self.write)

    def _on_states(self, message):
        assert len(message.name) == len(message.position) == len(message.velocity) == len(message.effort)
        self.states = dict(zip(message.name, message.position, strict=True))

    def write(self):
        if not self.states:
            return
        if sum(abs(self.states[name] - value) for name, value in self.commands.items()) > THRESHOLD:
            self.publisher.publish(JointState(name=self.names, position=[*self.commands.values()]))


@pytest.mark.graph
@pytest.mark.parametrize(("task", "name"), [("pick_cube", "panda"), ("pick_cube_so101", "so101")])
def test_controllers_move_arm_and_gripper_by_the_topics_of_the_plugin_alone(ros, processes, task, name):
    robot = load_robot(name)
    parameters = (f"task:={task}", "real_time_factor:=1.0", "by_controllers:=true")
    processes.start(*BRIDGE, *(word for each in parameters for word in ("-p", each)))
    hardware = TopicBasedHardware(ros, robot)
    first = robot.arm_joints[0]

    def reached():
        gaps = [abs(hardware.states[joint] - hardware.commands[joint]) for joint in robot.arm_joints]
        return max(gaps) < 0.03

    ros.spin_until(lambda: hardware.states, timeout=60.0, what="joint states of the bridge")
    assert hardware.states.keys() >= set(robot.joints)
    ros.spin_until(reached, timeout=60.0, what="the arm where the plugin begins")
    finger = robot.gripper.joints[0]
    closed = robot.gripper.position(0.5 * robot.gripper.max_width)
    hardware.commands[first] += 0.3
    hardware.commands[finger] = closed
    span = abs(robot.gripper.position(robot.gripper.max_width) - robot.gripper.position(robot.gripper.min_width))
    ros.spin_until(
        lambda: reached() and abs(hardware.states[finger] - closed) < 0.1 * span,
        timeout=60.0,
        what=lambda: f"{hardware.commands}, found {hardware.states}",
    )
    # what controllers have, they have alone
    topics = ("target_pose", "gripper_controller/commands", "joint_trajectory_controller/joint_trajectory")
    assert [hardware.node.count_subscribers(topic) for topic in topics] == [0, 0, 0]
    assert hardware.node.count_publishers("joint_states") == 0


@pytest.mark.graph
def test_a_command_without_sense_is_refused_and_the_arm_stays(ros, processes):
    robot = load_robot("panda")
    parameters = ("task:=pick_cube", "real_time_factor:=1.0", "by_controllers:=true")
    process = processes.start(*BRIDGE, *(word for each in parameters for word in ("-p", each)))
    hardware = TopicBasedHardware(ros, robot)
    ros.spin_until(lambda: hardware.states and hardware.publisher.get_subscription_count(), timeout=60.0)
    before = dict(hardware.states)
    hardware.commands = {name: np.nan if name == robot.arm_joints[2] else before[name] for name in hardware.commands}
    hardware.publisher.publish(JointState(name=hardware.names, position=[*hardware.commands.values()]))
    hardware.publisher.publish(JointState(name=hardware.names[1:], position=[0.0] * 8))
    ros.spin_until(lambda: "robot_joint_commands: message refused" in process.output(), timeout=30.0)
    assert all(abs(hardware.states[joint] - before[joint]) < 0.01 for joint in robot.arm_joints)


def test_a_world_that_waits_for_commands_is_refused(processes):
    process = processes.start(*BRIDGE, "-p", "by_controllers:=true")
    assert process.wait() != 0
    assert "expected a real_time_factor above 0" in process.output()
