# SPDX-License-Identifier: Apache-2.0
"""What a bridge publishes of the world in every step, whoever simulates it. Messages are made once, then refilled."""

import time
from typing import Protocol

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Pose as PoseMessage
from geometry_msgs.msg import WrenchStamped
from numpy.typing import NDArray
from rclpy.node import Node
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState
from serl_robots.model.pose import Pose
from serl_robots.model.robot import RobotModel
from serl_ros.arrays import from_array
from serl_ros.qos import LATCHED, RELIABLE_1, RELIABLE_10
from serl_tasks.arm_sample import arm_topic
from std_msgs.msg import String

from serl_interfaces.msg import WorldState
from serl_tasks import Task


class StatefulWorld(Protocol):
    """What is published of a world in every step, whoever simulates it."""

    @property
    def task(self) -> Task:
        """What is done in it."""

    @property
    def robot(self) -> RobotModel:
        """Whose joints these are."""

    def readings(self, arm: str) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Positions [rad] or [m], velocities and efforts of one arm's joints, float64 (n,), as ``robot.joints``."""

    @property
    def wrench(self) -> NDArray[np.float64] | None:
        """What the wrist measures, float64 (6,) [N], then [Nm]; None where nothing does."""

    def objects(self) -> dict[str, Pose]:
        """True poses of ``"tcp"``, of two arms ``"left/tcp"`` and so on, and of every object."""


class _JointPublisher:
    """Publishes `joint_states` of one arm, of several in the namespace of its prefix."""

    def __init__(self, node: Node, world: StatefulWorld, stamp: Time, arm: str, topic: str) -> None:
        self._world, self._arm = world, arm
        self._message = JointState(name=list(world.robot.joints))
        self._message.header.stamp = stamp
        zeros = [0.0] * len(world.robot.joints)
        self._message.position, self._message.velocity, self._message.effort = zeros, zeros, zeros
        self._values = [
            from_array(values) for values in (self._message.position, self._message.velocity, self._message.effort)
        ]
        self._publisher = node.create_publisher(JointState, arm_topic(arm, topic), RELIABLE_10)

    def publish(self) -> None:
        for values, measured in zip(self._values, self._world.readings(self._arm), strict=True):
            values[:] = measured
        self._publisher.publish(self._message)


class StatePublisher:
    """Publishes `joint_states` of each arm, `truth`, `clock`, `sim/problem`, `wrench` for a task that observes it."""

    def __init__(
        self,
        node: Node,
        world: StatefulWorld,
        stamp: Time,
        clock_max_rate: float,
        frame_prefix: str,
        joint_states: str = "joint_states",
    ) -> None:
        """Prepare the messages.

        Args:
            node: that owns the publishers.
            world: whose state it is.
            stamp: of all messages; the caller changes it in place.
            clock_max_rate: most messages on `clock` in a second of wall time; every node pays for each.
            frame_prefix: before the names of frames.
            joint_states: topic of the joints.
        """
        self._world = world
        names = list(world.objects())
        self._truth = WorldState(names=names, poses=[PoseMessage() for _ in names])
        self._truth.header.stamp = stamp
        self._truth.header.frame_id = frame_prefix + world.task.reference_frame(world.robot.base_frame)
        self._clock = Clock(clock=stamp)
        self._clock_period_ns = round(1e9 / clock_max_rate)
        self._next_clock_ns = 0
        self._clock_is_due = True
        self._wrench = WrenchStamped()
        self._wrench.header.stamp = stamp
        self._wrench.header.frame_id = frame_prefix + world.robot.tcp_frame
        self._wrench_publisher = None
        if world.task.measures_wrench:
            self._wrench_publisher = node.create_publisher(WrenchStamped, "wrench", RELIABLE_10)
        self._joints = [_JointPublisher(node, world, stamp, arm, joint_states) for arm in world.task.arm_names]
        self._truth_publisher = node.create_publisher(WorldState, "truth", RELIABLE_10)
        # Relative: in a namespace there may be other worlds beside this one, each with its own time.
        self._clock_publisher = node.create_publisher(Clock, "clock", RELIABLE_1)
        self._problem_publisher = node.create_publisher(String, "sim/problem", LATCHED)
        self._problem = ""

    def publish(self, episode: int, step: int) -> None:
        """Publish the state of control step `step` of `episode`."""
        world = self._world
        wrench = world.wrench
        if self._wrench_publisher is not None and wrench is not None:
            force, torque = self._wrench.wrench.force, self._wrench.wrench.torque
            force.x, force.y, force.z, torque.x, torque.y, torque.z = wrench.tolist()
            self._wrench_publisher.publish(self._wrench)  # first: who has the joint states has it, too
        for joints in self._joints:
            joints.publish()
        self._truth.episode, self._truth.step = episode, step
        for message, pose in zip(self._truth.poses, world.objects().values(), strict=True):
            fill_pose(message, pose)
        self._truth_publisher.publish(self._truth)
        self._clock_is_due = True
        now = time.monotonic_ns()
        if now >= self._next_clock_ns:
            self.publish_clock()
            self._next_clock_ns = now + self._clock_period_ns

    def publish_problem(self, problem: str) -> None:
        """Say why the world cannot move until it is reset; empty: it can."""
        if problem != self._problem:
            self._problem = problem
            self._problem_publisher.publish(String(data=problem))

    def publish_clock(self) -> None:
        """Publish the newest time, if it was not."""
        if self._clock_is_due:
            self._clock_is_due = False
            self._clock_publisher.publish(self._clock)


def fill_pose(message: PoseMessage, pose: Pose) -> None:
    """Write a pose into a message, in place."""
    position, orientation = message.position, message.orientation
    position.x, position.y, position.z = pose.position.tolist()
    orientation.x, orientation.y, orientation.z, orientation.w = pose.quaternion.tolist()
