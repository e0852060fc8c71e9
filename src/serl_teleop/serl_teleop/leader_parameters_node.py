# SPDX-License-Identifier: Apache-2.0
"""Parameters of the leader arms of the node `teleop`, and how each is opened."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import JointState, Joy
from serl_robots.model.kinematics import Kinematics
from serl_robots.model.robot import HOME, RobotModel, load_robot
from serl_ros.incoming import subscribe
from serl_ros.parameters import ParameterError, declare
from serl_ros.qos import LOOP_1, RELIABLE_1, RELIABLE_10
from serl_tasks.messages import MessageError, arm_sample

from serl_interfaces.msg import ArmState
from serl_tasks import ArmSample, Task
from serl_teleop.devices.device import Device, DeviceError
from serl_teleop.devices.joy import joy_state
from serl_teleop.devices.leader.arm import LeaderArm, LeaderHardware, LeaderSettings
from serl_teleop.devices.leader.chain import SERVO_LEADER, Joints, LeaderKinematics, RobotChain
from serl_teleop.devices.leader.grab import GrabSettings
from serl_teleop.devices.leader.servo_leader import open_servo_leader
from serl_teleop.devices.leader.space import JointSpace, Space, ToolSpace
from serl_teleop.devices.leader.topic_leader import TopicLeader


def servo_leader(node: Node, task: Task) -> Callable[[], Device]:
    """Declare the parameters of an SO-101 leader, `leader.port` and so on; returns what opens it.

    Raises:
        ParameterError: one of them cannot be meant so.
    """
    name, robot = "leader", load_robot(task.robot)
    model = load_robot(
        declare(node, "leader.robot", SERVO_LEADER, "Its file in config/robots, which says how it moves.")
    )
    port = declare(node, "leader.port", "", "Serial port; empty: the only one that is plugged in.")
    file = declare(node, "leader.calibration", "", "LeRobot's file; empty: the only one that LeRobot has made.")
    torque = _share(node, "leader.torque", 0.3, "with which it follows the robot")
    held = _share(node, "leader.held_torque", 0.15, "with which it stays where a hand has left it")
    home = np.array(
        declare(node, "leader.home", [0.0, -0.4, 0.2, 0.8, 0.0], "Its angles where the robot is at home [rad].")
    )
    if home.shape != (len(model.arm_joints),):
        expected = f"{len(model.arm_joints)} angles, as {model.name} has joints"
        raise ParameterError(f"parameter 'leader.home': expected {expected}, found {home.tolist()}")
    chain = RobotChain(Kinematics(model))
    make_space = _tool_space(node, name, robot)
    make = _leader(node, name, task)

    def open_it() -> Device:
        hardware = open_servo_leader(port, file, torque, held)
        lower, upper = hardware.limits
        if lower.shape != home.shape:
            hardware.close()
            expected = f"the {len(home)} joints of {model.name} and a gripper"
            raise DeviceError(f"{hardware.description}: expected {expected}, found {len(lower)} joints and a gripper")
        return make(hardware, make_space(chain, home, lower, upper))

    return open_it


def topic_leader(node: Node, task: Task) -> Callable[[], Device]:
    """Declare the parameters of a leader that publishes `joint_states`, `joint_leader.topic` and so on.

    Raises:
        ParameterError: one of them cannot be meant so.
    """
    name, robot = "joint_leader", load_robot(task.robot)
    topic = declare(node, "joint_leader.topic", "leader/joint_states", "sensor_msgs/JointState of the leader's driver.")
    goal = declare(node, "joint_leader.goal_topic", "", "JointState that moves it; empty: it is moved by hand alone.")
    named = declare(node, "joint_leader.robot", "", "Its file in config/robots; empty: it is built as the robot.")
    model = load_robot(named) if named else robot
    joints = declare(
        node, "joint_leader.joints", [""], "Its joints, in the order of its robot's; [''] where they are called alike."
    )
    joints = [*joints] if any(joints) else [*model.arm_joints]
    if len(joints) != len(model.arm_joints):
        raise ParameterError(
            f"parameter 'joint_leader.joints': expected {len(model.arm_joints)}, as {model.name} has, found {joints}"
        )
    handle = declare(node, "joint_leader.handle", "", "Joint of its handle; empty: it has none.")
    closed = declare(node, "joint_leader.handle_closed", 0.0, "Position of the handle where the gripper is closed.")
    opened = declare(node, "joint_leader.handle_open", 1.0, "Position of the handle where the gripper is open.")
    if handle and closed == opened:
        raise ParameterError(
            f"parameter 'joint_leader.handle_open': expected another than handle_closed, found {opened}"
        )
    timeout = declare(node, "joint_leader.timeout", 0.5, "Longest silence of its driver [s].", range=(0.05, 10.0))
    choices = ("joints", "tool")
    by = declare(
        node, "joint_leader.space", "joints", "What leads the robot: its joints, or its tool.", choices=choices
    )
    if by == "joints" and model.name != robot.name:
        raise ParameterError(
            f"parameter 'joint_leader.space': {model.name} and {robot.name} have different joints; expected 'tool'"
        )
    make_space = _tool_space(node, name, robot) if by == "tool" else None
    kinematics = Kinematics(model)
    send = _goal_publisher(node, goal, joints) if goal else None
    leader = TopicLeader(topic, joints, (handle, closed, opened) if handle else None, timeout, send)
    subscribe(
        node, JointState, topic, lambda message: leader.take(message, time.monotonic()), RELIABLE_10, MessageError
    )
    make = _leader(node, name, task)

    def open_it() -> Device:
        home = np.array(model.configuration(HOME))
        space: Space = JointSpace(kinematics)
        if make_space is not None:
            space = make_space(RobotChain(kinematics), home, kinematics.lower, kinematics.upper)
        return make(leader, space)

    return open_it


def _tool_space(
    node: Node, name: str, robot: RobotModel
) -> Callable[[LeaderKinematics, Joints, Joints, Joints], ToolSpace]:
    scale = declare(node, f"{name}.scale", 1.5, "Way of the robot's tool for one of the leader's.", range=(0.05, 10.0))
    yaw = declare(
        node, f"{name}.yaw", 0.0, "How far its base is turned to the left against the robot's [rad].", range=(-3.2, 3.2)
    )
    tool = Kinematics(robot).tcp(robot.configuration(HOME))

    def make(kinematics: LeaderKinematics, home: Joints, lower: Joints, upper: Joints) -> ToolSpace:
        return ToolSpace(kinematics, home, tool, lower, upper, scale, yaw)

    return make


def _leader(node: Node, name: str, task: Task) -> Callable[[LeaderHardware, Space], LeaderArm]:
    """Declare what all leaders have; returns what puts one together."""
    start, start_window = 1e3 * GrabSettings.start_variance**0.5, GrabSettings.start_window
    release, release_window = 1e3 * GrabSettings.release_variance**0.5, GrabSettings.release_window

    def number(key: str, default: float, text: str, low: float, high: float) -> float:
        return declare(node, f"{name}.{key}", default, text, range=(low, high))

    start = number("grab_deviation", start, "Deviation of its tracking error above which it is grabbed [mrad].", 1, 1e3)
    start_window = number("grab_window", start_window, "Time over which it deviates [s].", 0.02, 2.0)
    release = number("release_deviation", release, "Deviation below which it has been let go [mrad].", 0.1, 1e3)
    release_window = number("release_window", release_window, "Time over which it deviates [s].", 0.05, 5.0)
    settings = LeaderSettings(
        GrabSettings((1e-3 * start) ** 2, start_window, (1e-3 * release) ** 2, release_window),
        number("speed", LeaderSettings.speed, "Speed at which it follows the robot [rad/s].", 0.05, 5.0),
        number("lag", LeaderSettings.lag, "By how much it is behind its goal [s].", 0.0, 1.0),
        number("blend", LeaderSettings.blend, "Time in which the lead fades after letting go [s].", 0.0, 0.3),
    )
    joy = declare(node, f"{name}.joy", "", "Joy of a pedal or buttons beside it; empty: none.")
    lead = declare(node, f"{name}.lead_button", "", "Number of the button that leads; empty: whoever takes it leads.")
    if lead and not joy:
        raise ParameterError(f"parameter '{name}.lead_button': say where it is pressed, by '{name}.joy'")
    newest = _Newest()
    subscribe(node, ArmState, "arm/state", newest.hear_arm, LOOP_1, MessageError)
    if joy:
        subscribe(node, Joy, joy, newest.hear_joy, RELIABLE_10, MessageError)
    gripper = task.action.gripper
    width = gripper[1] if gripper is not None else load_robot(task.robot).gripper.max_width

    def make(hardware: LeaderHardware, space: Space) -> LeaderArm:
        return LeaderArm(hardware, space, settings, lambda: newest.arm, width, lambda: newest.buttons, lead)

    return make


class _Newest:
    """What was heard last of the robot, and of the buttons beside a leader."""

    def __init__(self) -> None:
        self.arm: ArmSample | None = None
        self.buttons: frozenset[str] = frozenset()

    def hear_arm(self, message: ArmState) -> None:
        self.arm = arm_sample(message)

    def hear_joy(self, message: Joy) -> None:
        self.buttons = joy_state(message, [-1] * 6, 0.0).buttons


def _goal_publisher(node: Node, topic: str, names: list[str]) -> Callable[[Joints], None]:
    publisher = node.create_publisher(JointState, topic, RELIABLE_1)

    def send(joints: Joints) -> None:
        message = JointState(name=names, position=joints.tolist())
        message.header.stamp = node.get_clock().now().to_msg()
        publisher.publish(message)

    return send


def _share(node: Node, name: str, default: float, text: str) -> float:
    return declare(node, name, default, f"Share of its torque {text}.", range=(0.01, 1.0))
