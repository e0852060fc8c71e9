# SPDX-License-Identifier: Apache-2.0
"""An arm controller's node among others, for tests: a pretended bridge moves a pretended arm, all else is real."""

from array import array
from collections.abc import Callable
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseStamped
from rclpy.action import ActionClient
from rclpy.parameter import Parameter
from sensor_msgs.msg import JointState
from serl_robots.arm_controller_node import ArmControllerNode
from serl_robots.model.kinematics import Kinematics
from serl_robots.model.pose import Pose
from serl_robots.model.robot import load_robot
from serl_ros.qos import LATCHED, RELIABLE_1, RELIABLE_10
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from serl_interfaces.action import MoveTo
from serl_interfaces.msg import ActionCommand, ArmState, EpisodeStatus, ExecutedAction, SafetyStatus

PERIOD_NS = 100_000_000


class Bridge:
    """Plays the world: takes the arm to what is commanded, and says where it is."""

    def __init__(self, ros: Any, *, lockstep: bool) -> None:
        self.robot = load_robot("panda")
        self.kinematics = Kinematics(self.robot)
        self.lockstep = lockstep
        self.node = ros.node("bridge")
        self.joints = np.array(self.robot.configuration("home"))
        self.width = 0.04
        self.stamp_ns = PERIOD_NS
        self.publishes = True
        self.log: list[tuple[str, Any]] = []
        self._pending_width: float | None = None
        self._pending_pose: PoseStamped | None = None
        node = self.node
        self.publisher = node.create_publisher(JointState, "joint_states", RELIABLE_10)
        node.create_subscription(PoseStamped, "target_pose", self._on_pose, RELIABLE_1)
        node.create_subscription(Float64MultiArray, "gripper_controller/commands", self._on_width, RELIABLE_1)
        node.create_subscription(
            JointTrajectory, "joint_trajectory_controller/joint_trajectory", self._on_trajectory, RELIABLE_1
        )
        if not lockstep:
            node.create_timer(0.01, lambda: self.publish(10_000_000))

    def publish(self, elapsed_ns: int = PERIOD_NS) -> None:
        """Say where the arm is, so much later."""
        if not self.publishes:
            return
        self.stamp_ns += elapsed_ns
        message = JointState(name=list(self.robot.joints))
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(self.stamp_ns, 1_000_000_000)
        message.position = array("d", [*self.joints.tolist(), 0.5 * self.width, 0.5 * self.width])
        message.velocity = array("d", [0.1] * len(self.robot.joints))
        self.publisher.publish(message)

    def _on_width(self, message: Float64MultiArray) -> None:
        self.log.append(("width", message.data[0]))
        self._pending_width = message.data[0]
        self._go()

    def _on_pose(self, message: PoseStamped) -> None:
        self.log.append(("pose", message))
        self._pending_pose = message
        self._go()

    def _go(self) -> None:
        """Topics have no order among them: a command is complete when both halves are there."""
        if self._pending_width is None or self._pending_pose is None:
            return
        p, q = self._pending_pose.pose.position, self._pending_pose.pose.orientation
        self.width = self._pending_width
        self._pending_width = self._pending_pose = None
        goal = Pose((p.x, p.y, p.z), (q.x, q.y, q.z, q.w))
        for _ in range(8):  # Newton's method for the inverse kinematics
            tcp = self.kinematics.tcp(self.joints)
            error = np.concatenate([goal.position - tcp.position, tcp.rotation_vector_to(goal)])
            jacobian = np.stack([self.kinematics.tcp_velocity(self.joints, row) for row in np.eye(7)], axis=1)
            self.joints = self.joints + np.linalg.pinv(jacobian) @ error
        if self.lockstep:
            self.publish()

    def _on_trajectory(self, message: JointTrajectory) -> None:
        self.log.append(("joints", message))
        assert list(message.joint_names) == list(self.robot.arm_joints)
        assert message.points[0].time_from_start.nanosec == PERIOD_NS
        self.joints = np.array(message.points[0].positions)
        if self.lockstep:
            self.publish()


class Graph:
    """A controller, a bridge, and somebody who talks to the controller."""

    def __init__(
        self,
        ros: Any,
        *,
        lockstep: bool,
        start: bool = True,
        node_class: type[ArmControllerNode] = ArmControllerNode,
        **parameters: Any,
    ) -> None:
        overrides = {
            "lockstep": lockstep,
            "limits.workspace_min": [0.25, -0.3, 0.02],
            "limits.workspace_max": [0.7, 0.3, 0.5],
            "limits.joint_state_timeout": 5.0,  # a busy machine may keep the bridge from its timer for a while
            **parameters,
        }
        self.controller = ros.add(
            node_class(
                context=ros.context, parameter_overrides=[Parameter(name, value=v) for name, v in overrides.items()]
            )
        )
        self.ros = ros
        self.bridge = Bridge(ros, lockstep=lockstep)
        self.node = ros.node("somebody")
        self.states: list[ArmState] = []
        self.executed: list[ExecutedAction] = []
        self.safety: list[SafetyStatus] = []
        node = self.node
        node.create_subscription(ArmState, "arm/state", self.states.append, RELIABLE_10)
        node.create_subscription(ExecutedAction, "arm/executed", self.executed.append, RELIABLE_10)
        node.create_subscription(SafetyStatus, "arm/safety", self.safety.append, LATCHED)
        self.policy = node.create_publisher(ActionCommand, "policy/action", RELIABLE_1)
        self.teleop = node.create_publisher(ActionCommand, "teleop/action", RELIABLE_1)
        self.episode = node.create_publisher(EpisodeStatus, "episode", LATCHED)
        self.mover = ActionClient(node, MoveTo, "arm/move_to")
        topics = ["target_pose", "gripper_controller/commands", "joint_trajectory_controller/joint_trajectory"]
        ros.spin_until(lambda: all(self.controller.count_subscribers(topic) for topic in topics))
        ros.spin_until(lambda: all(node.count_subscribers(t) for t in ("policy/action", "teleop/action", "episode")))
        ros.spin_until(lambda: self.bridge.node.count_subscribers("joint_states") and self.safety)
        if start:
            ros.spin_until(lambda: node.count_publishers("arm/state"))
            self.bridge.publish()
            ros.spin_until(lambda: self.states)

    def close(self) -> None:
        """What destroying its node leaves behind."""
        self.mover.destroy()

    def act(self, step: int, *action: float, episode: int = 1) -> None:
        """Send a step of the policy."""
        message = ActionCommand(episode=episode, step=step, active=True, action=array("f", action))
        self.policy.publish(message)

    def step(self, step: int, *action: float, episode: int = 1) -> ExecutedAction:
        """One control step in lockstep, up to the state that follows."""
        count = len(self.states)
        self.act(step, *action, episode=episode)
        self.ros.spin_until(lambda: len(self.states) > count and self.executed and self.executed[-1].step == step)
        return self.executed[-1]

    def call(self, service: type, name: str, request: Any) -> Any:
        """Call a service; its response."""
        client = self.node.create_client(service, name)
        self.ros.spin_until(client.service_is_ready)
        future = client.call_async(request)
        self.ros.spin_until(future.done)
        return future.result()

    def move(self, feedback: Callable[[Any], None] | None = None, **goal: Any) -> Any:
        """Send a goal; the accepted handle."""
        self.ros.spin_until(self.mover.server_is_ready)
        future = self.mover.send_goal_async(MoveTo.Goal(**goal), feedback_callback=feedback)
        self.ros.spin_until(future.done)
        assert future.result().accepted
        return future.result()

    def result(self, handle: Any) -> MoveTo.Result:
        """Wait for the result of a goal."""
        future = handle.get_result_async()
        self.ros.spin_until(future.done, timeout=60.0)
        return future.result().result
