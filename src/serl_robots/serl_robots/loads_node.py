# SPDX-License-Identifier: Apache-2.0
"""What the arm pushes with, from `wrench` and `joint_states`, for limits that ask for it."""

import math
import time

from geometry_msgs.msg import WrenchStamped
from rclpy.node import Node
from serl_ros.incoming import subscribe
from serl_ros.qos import LOOP_1

from serl_robots.safety.limits import SafetyLimits
from serl_robots.safety.overload import Loads


class LoadListener:
    """Keeps the newest `wrench`, where a limit asks for it."""

    def __init__(self, node: Node, limits: SafetyLimits, *, lockstep: bool) -> None:
        """Listen on `node`; in `lockstep`, where time stands still between commands, no wrench is too old."""
        self._oldest = math.inf if lockstep else limits.joint_state_timeout
        self._wrench: tuple[float, float, float] | None = None  # force [N], torque [Nm], local time [s]
        if limits.max_force > 0.0 or limits.max_torque > 0.0:
            self._subscription = subscribe(node, WrenchStamped, "wrench", self._on_wrench, LOOP_1, ValueError)

    def loads(self, efforts: tuple[float, ...] | None) -> Loads:
        """What is known now, with the efforts (n,) [Nm] of the newest joint states."""
        if self._wrench is None or time.monotonic() - self._wrench[2] > self._oldest:
            return Loads(efforts=efforts)
        force, torque, _ = self._wrench
        return Loads(force, torque, efforts)

    def _on_wrench(self, message: WrenchStamped) -> None:
        force, torque = message.wrench.force, message.wrench.torque
        lengths = math.hypot(force.x, force.y, force.z), math.hypot(torque.x, torque.y, torque.z)
        if not math.isfinite(sum(lengths)):
            raise ValueError(f"expected finite force and torque, found lengths {lengths}")
        self._wrench = (*lengths, time.monotonic())
