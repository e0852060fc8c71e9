# SPDX-License-Identifier: Apache-2.0
"""What surrounds the arm controller in its benchmarks, each a process: ``python -m ...arm_peers_node ROLE``.

The body says where the arm is; in lockstep it does so when it is commanded. The others lead, or disturb.
"""

import argparse
import itertools
import math
from array import array
from collections.abc import Callable

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import PoseStamped
from numpy.typing import NDArray
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.timer import Timer
from sensor_msgs.msg import Image, JointState
from serl_robots.benchmarks.storm import solve_joints
from serl_robots.model.kinematics import Kinematics
from serl_robots.model.pose import Pose
from serl_robots.model.robot import load_robot
from serl_ros.images import image_message
from serl_ros.node import run_node
from serl_ros.qos import LATCHED, LOOP_1, RELIABLE_1, RELIABLE_10
from trajectory_msgs.msg import JointTrajectory

from serl_interfaces.msg import ActionCommand, ArmState, EpisodeStatus
from serl_tasks import get_task

TASK = "pick_cube"
PERIOD = 0.1  # [s] of control
STATE_PERIOD = 0.01  # [s] between joint states
DEVICE_PERIOD = 0.02  # [s] between messages of a person's device
PICTURE_PERIOD = 1 / 30  # [s] of a camera
FLOOD_PERIOD = 0.001  # [s] between two floods of everything
ACTION = (1.0, 0.0, 0.0, 0.0)
_EPISODE = 1


class Body(Node):
    """An arm that is wherever it is commanded to, one state later."""

    def __init__(self, lockstep: bool) -> None:
        super().__init__("body")
        robot = load_robot(get_task(TASK).robot)
        self._kinematics = Kinematics(robot)
        self._joints = np.array(robot.configuration("home"))
        self._message = JointState(name=list(robot.joints))
        self._message.velocity = array("d", bytes(8 * len(robot.joints)))
        self._stamp_ns = 0
        self._lockstep = lockstep
        self._publisher = self.create_publisher(JointState, "joint_states", RELIABLE_10)
        topic = "joint_trajectory_controller/joint_trajectory"
        self._kept = [
            self.create_subscription(PoseStamped, "target_pose", self._on_pose, LOOP_1),
            self.create_subscription(JointTrajectory, topic, self._on_joints, LOOP_1),
        ]
        if lockstep:
            self._timer = _timer(self, 0.2, lambda: self._advance(0.0))
        else:
            self._timer = _timer(self, STATE_PERIOD, lambda: self._advance(STATE_PERIOD))
        self._advance(PERIOD)

    def _on_pose(self, message: PoseStamped) -> None:
        p, q = message.pose.position, message.pose.orientation
        self._obey(solve_joints(self._kinematics, self._joints, Pose((p.x, p.y, p.z), (q.x, q.y, q.z, q.w))))

    def _on_joints(self, message: JointTrajectory) -> None:
        self._obey(np.array(message.points[0].positions))

    def _obey(self, joints: NDArray[np.float64]) -> None:
        self._joints = joints
        if self._lockstep:
            self._advance(PERIOD)

    def _advance(self, seconds: float) -> None:
        self._stamp_ns += round(seconds * 1e9)
        stamp = self._message.header.stamp
        stamp.sec, stamp.nanosec = divmod(self._stamp_ns, 1_000_000_000)
        self._message.position = array("d", [*self._joints.tolist(), 0.02, 0.02])
        self._publisher.publish(self._message)


class Leader(Node):
    """Leads to and fro along x at full speed: as the policy, a person's device, or a person who answers each state."""

    def __init__(self, topic: str, period: float, synchronous: bool) -> None:
        super().__init__("leader")
        self._publisher = self.create_publisher(ActionCommand, topic, RELIABLE_1)
        self._command = ActionCommand(episode=_EPISODE, active=True, synchronous=synchronous)
        self._steps = itertools.count()
        self._period = period
        if synchronous:
            self._states = self.create_subscription(ArmState, "arm/state", self._answer, LOOP_1)
        else:
            if topic == "policy/action":
                self._states = self.create_subscription(ArmState, "arm/state", self._see, LOOP_1)
                self._episodes = self.create_publisher(EpisodeStatus, "episode", LATCHED)
                self._episodes.publish(EpisodeStatus(episode=_EPISODE, mode=EpisodeStatus.MODE_TRAINING))
            self._timer = _timer(self, period, self._act)

    def _see(self, state: ArmState) -> None:
        self._command.header.stamp = state.header.stamp

    def _answer(self, state: ArmState) -> None:
        self._see(state)
        self._act()

    def _act(self) -> None:
        command = self._command
        command.step = next(self._steps)
        sign = 1.0 if int(command.step * self._period / 0.5) % 2 else -1.0
        command.action = array("f", [sign * ACTION[0], *ACTION[1:]])
        self._publisher.publish(command)


class Flood(Node):
    """Everything that a controller must refuse, on every topic that it listens to, as fast as it goes."""

    def __init__(self) -> None:
        super().__init__("flood")
        bad = [
            ActionCommand(active=True, action=array("f", [math.nan] * 4)),
            ActionCommand(active=True, action=array("f", [0.0] * 1000)),
            ActionCommand(),
        ]
        self._messages = itertools.cycle(
            [
                *[("policy/action", message) for message in bad],
                *[("teleop/action", message) for message in bad[:2]],
                ("joint_states", JointState(name=["wheel"], position=[0.0], velocity=[0.0])),
                ("episode", EpisodeStatus(episode=_EPISODE, mode=EpisodeStatus.MODE_IDLE)),
            ]
        )
        self._topics = {
            "policy/action": self.create_publisher(ActionCommand, "policy/action", RELIABLE_1),
            "teleop/action": self.create_publisher(ActionCommand, "teleop/action", RELIABLE_1),
            "joint_states": self.create_publisher(JointState, "joint_states", RELIABLE_10),
            "episode": self.create_publisher(EpisodeStatus, "episode", LATCHED),
        }
        self._timer = _timer(self, FLOOD_PERIOD, self._disturb)

    def _disturb(self) -> None:
        topic, message = next(self._messages)
        self._topics[topic].publish(message)


class Cameras(Node):
    """Two cameras of a busy picture each."""

    def __init__(self) -> None:
        super().__init__("cameras")
        rng = np.random.default_rng(0)
        coarse = rng.integers(0, 256, (48, 64, 3), np.uint8)
        picture = np.kron(coarse, np.ones((10, 10, 1), np.uint8))
        self._message = image_message(picture, Time(), "camera")
        self._publishers = [
            self.create_publisher(Image, f"{name}/color/image_raw", RELIABLE_1) for name in ("front", "wrist")
        ]
        self._timer = _timer(self, PICTURE_PERIOD, self._show)

    def _show(self) -> None:
        for publisher in self._publishers:
            publisher.publish(self._message)


def _timer(node: Node, period: float, callback: Callable[[], None]) -> Timer:
    return node.create_timer(period, callback, clock=Clock(clock_type=ClockType.STEADY_TIME))


def main() -> None:
    """Entry point of a peer process."""
    parser = argparse.ArgumentParser(description=__doc__)
    factories = {
        "body": lambda: Body(lockstep=False),
        "body-lockstep": lambda: Body(lockstep=True),
        "policy": lambda: Leader("policy/action", PERIOD, synchronous=False),
        "device": lambda: Leader("teleop/action", DEVICE_PERIOD, synchronous=False),
        "answerer": lambda: Leader("teleop/action", STATE_PERIOD, synchronous=True),
        "flood": Flood,
        "cameras": Cameras,
    }
    parser.add_argument("role", choices=tuple(factories))
    run_node(factories[parser.parse_args().role], args=[])


if __name__ == "__main__":
    main()
