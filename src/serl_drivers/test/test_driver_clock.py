# SPDX-License-Identifier: Apache-2.0
"""Clocks that jump at a driver: it moves by a clock that does not, and only its stamps follow ROS time."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

import pytest

pytest.importorskip("rclpy")
from rclpy.parameter import Parameter
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState
from serl_drivers.driver_node import DriverNode
from serl_ros.qos import RELIABLE_1, RELIABLE_10
from std_msgs.msg import Float64MultiArray


@pytest.mark.graph
def test_clocks_that_jump_make_no_step_larger_and_end_no_motion(ros: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    overrides = [Parameter("driver", value="mock"), Parameter("use_sim_time", value=True)]
    driver = ros.add(DriverNode(context=ros.context, parameter_overrides=overrides))
    node = ros.node("commander")
    states: list[JointState] = []
    node.create_subscription(JointState, "joint_states", states.append, RELIABLE_10)
    clock = node.create_publisher(Clock, "/clock", RELIABLE_1)
    widths = node.create_publisher(Float64MultiArray, "gripper_controller/commands", RELIABLE_1)
    inner = driver._driver
    speed, found = inner.settings.gripper_speed, list[float]()

    def turn(seconds: int, width: float) -> bool:
        """Command, with ROS time at `seconds`; whether the gripper is there."""
        message = Clock()
        message.clock.sec = seconds
        clock.publish(message)
        widths.publish(Float64MultiArray(data=[width]))
        reading = inner.tick(time.monotonic())
        if reading is not None:
            driver._publish(reading)
            found.append(reading.width)
        return bool(found) and abs(found[-1] - width) < 1e-3

    start = driver.get_clock().now().nanoseconds
    assert start == 0
    for seconds, width in ((1000, 0.06), (5, 0.04), (2_000_000_000, 0.05), (6, 0.03)):  # to and fro
        monkeypatch.setattr(time, "time", lambda jumped=seconds: 1e9 + jumped)  # the machine's clock, too
        ros.spin_until(lambda s=seconds, w=width: turn(s, w), timeout=60.0, what=lambda: inner.reason)
        ros.spin_until(lambda s=seconds, w=width: turn(s, w) and states[-1].header.stamp.sec == s, timeout=60.0)
    steps = [abs(after - before) for before, after in pairwise(found)]
    assert max(steps) <= 2.0 * speed * inner.settings.period + 1e-9
    inner.close(limp=False)
