# SPDX-License-Identifier: Apache-2.0
"""How an arm controller hears of the arm beside its own: parameter, names of topics, messages."""

import time
from collections.abc import Callable
from typing import Any

from rclpy.node import Node
from serl_ros.parameters import ParameterError, declare
from serl_ros.qos import LATCHED, LOOP_1

from serl_interfaces.msg import ArmState, SafetyStatus
from serl_robots.arm_messages_node import read_pose
from serl_robots.control.arm_command import keep_apart_of
from serl_robots.control.arm_controller import ArmController
from serl_robots.control.arm_task import ArmTask
from serl_robots.control.control_step import Command
from serl_robots.model.kinematics import Kinematics
from serl_robots.model.pose import PoseError
from serl_robots.safety.other_arm import OtherArm
from serl_ros import log as logs

_REPEAT_AFTER = 5.0  # [s] between two log lines


class ArmOfPair:
    """Which arm of a task a node controls, and what it hears of the other one, if there is one.

    Attributes:
        task: how the arm is commanded.
    """

    def __init__(self, node: Node, task: ArmTask) -> None:
        """Declare parameter `arm`.

        Raises:
            ParameterError: the task has no such arm.
        """
        arm = declare(node, "arm", "", "Of a task of two arms, the prefix of the one that is controlled; else empty.")
        if bool(task.arms) != bool(arm) or (arm and arm not in task.arms):
            expected = f"{' or '.join(task.arms)} (arms:=two of the launch file)" if task.arms else "none"
            raise ParameterError(
                f"parameter 'arm' of node '{node.get_name()}': expected {expected}, as the task is {task.name!r}, "
                f"found {arm!r}"
            )
        self.task = task.of_arm(arm)
        self._node, self._both, self._arm = node, task, arm
        # who has an arm beside it is in a namespace of its own
        self._graph = node.get_namespace().rstrip("/").removesuffix(f"/{arm}") + "/" if arm else ""

    def topic(self, name: str) -> str:
        """Name of a topic that is of both arms."""
        return f"{self._graph}{name}"

    def other(self, kinematics: Kinematics, *, lockstep: bool) -> OtherArm | None:
        """What an `ArmController` knows of the other arm, which is nothing yet; None where there is none."""
        keep_apart = keep_apart_of(self._both, self._arm, kinematics)
        return None if keep_apart is None else OtherArm(keep_apart, lockstep=lockstep)

    def listen(
        self,
        controller: Callable[[], ArmController | None],
        publish: Callable[[Command | None], None],
        guarded: Callable[[str, Callable[..., None]], Callable[[Any], None]],
    ) -> list[Any]:
        """Subscribe to what the other arm tells; returns the subscriptions.

        Args:
            controller: of this arm; None while it cannot be asked.
            publish: takes what it commands.
            guarded: makes a callback of a topic whose errors stop the arm and nothing else.
        """
        if not self._arm:
            return []

        def on_state(message: ArmState) -> None:
            asked = controller()
            if asked is None:
                return
            try:
                target, tcp = read_pose(message.target_pose), read_pose(message.tcp_pose)
            except PoseError as error:  # as if it had said nothing: who says nothing for long makes this arm stand
                text = f"{beside}/state refused: {error}"
                logs.log(self._node, logs.ERROR, text, throttle=_REPEAT_AFTER, key="other_arm")
                return
            stamp = message.header.stamp
            stamp_ns = stamp.sec * 1_000_000_000 + stamp.nanosec
            publish(asked.on_other_arm(target, tcp, stamp_ns, time.monotonic()))

        def on_safety(message: SafetyStatus) -> None:
            asked = controller()
            if asked is not None:
                publish(asked.on_other_stop(stopped=message.estop))

        name = next(each for each in self._both.arm_names if each != self._arm)
        beside = self.topic(f"{name}/arm")
        return [
            self._node.create_subscription(kind, topic, guarded(f"topic {topic}", callback), qos)
            for kind, topic, callback, qos in (
                (ArmState, f"{beside}/state", on_state, LOOP_1),
                (SafetyStatus, f"{beside}/safety", on_safety, LATCHED),
            )
        ]
