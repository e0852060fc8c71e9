# SPDX-License-Identifier: Apache-2.0
"""A driver that is commanded by two holds the arm and says who they are."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from patience import eventually

pytest.importorskip("rclpy")
from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import PoseStamped
from rclpy.parameter import Parameter
from serl_drivers.device import Reading
from serl_drivers.driver_node import DriverNode
from serl_drivers.one_commander import OneCommander
from serl_ros.qos import LATCHED, RELIABLE_1
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

PATIENCE = 0.5


def test_who_is_followed_is_the_only_one() -> None:
    one = OneCommander(PATIENCE)
    assert all(one.accepts("pose", 1, number, 0.1 * number) for number in range(1, 50))
    assert one.accepts("pose", 1, None, 4.95)  # a middleware without numbers
    assert not one.accepts("pose", 2, 50, 5.0)
    assert not one.accepts("width", 1, 1, 5.1)  # nor on any other topic
    assert not one.accepts("pose", 1, 51, 5.4)
    assert one.accepts("pose", 1, 52, 5.6)


def test_a_message_of_one_who_has_gone_already_is_told_by_its_number() -> None:
    one = OneCommander(PATIENCE)
    assert one.accepts("pose", 1, 7, 0.0)
    assert not one.accepts("pose", 1, 1, 9.1)
    assert not one.accepts("pose", 1, 8, 9.2)  # one of them is not who was followed: nobody knows which
    assert one.accepts("pose", 1, 9, 9.7)


def test_who_begins_anew_is_followed_after_a_moment() -> None:
    one = OneCommander(PATIENCE)
    assert one.accepts("pose", 1, 70, 0.0)
    assert [one.accepts("pose", 1, number, 0.2 * number) for number in range(1, 7)] == [False] * 3 + [True] * 3


KINDS = {
    "target_pose": PoseStamped,
    "gripper_controller/commands": Float64MultiArray,
    "joint_trajectory_controller/joint_trajectory": JointTrajectory,
}


class Arm:
    """A driver of an arm that is where it is told to be, its loop turned beside a commander of widths."""

    def __init__(self, ros: Any) -> None:
        self.ros = ros
        overrides = [Parameter("driver", value="mock"), Parameter("task", value="pick_cube")]
        self.driver = ros.add(DriverNode(context=ros.context, parameter_overrides=overrides))
        self.commander = ros.node("commander")
        self.statuses: list[DiagnosticStatus] = []
        self.commander.create_subscription(DiagnosticStatus, "driver/status", self.statuses.append, LATCHED)
        publishers = {topic: self.commander.create_publisher(kind, topic, RELIABLE_1) for topic, kind in KINDS.items()}
        self.widths = publishers["gripper_controller/commands"]
        self.width = 0.05
        self.reading = Reading(np.zeros(7), np.zeros(7), 0.0)

    def turn(self, until: Callable[[], bool]) -> None:
        """Command and turn until something is so."""

        def turned() -> bool:
            self.widths.publish(Float64MultiArray(data=[self.width]))
            self.reading = self.driver._driver.tick(time.monotonic()) or self.reading
            return until()

        self.ros.spin_until(turned)

    @property
    def says(self) -> DiagnosticStatus:
        return self.statuses[-1]


@pytest.fixture
def arm(ros: Any) -> Iterator[Arm]:
    arm = Arm(ros)
    arm.turn(lambda: arm.statuses and arm.reading.width == pytest.approx(arm.width))
    yield arm
    arm.driver._driver.close(limp=False)


@pytest.mark.graph
@pytest.mark.parametrize("topic", KINDS)
def test_an_arm_that_a_second_one_commands_is_held_and_says_who_until_one_alone_is_left(arm: Arm, topic: str) -> None:
    intruder = arm.ros.node("intruder")
    publisher = intruder.create_publisher(KINDS[topic], topic, RELIABLE_1)
    arm.turn(lambda: arm.says.level == DiagnosticStatus.ERROR)
    assert "holding: the arm is commanded by more than one" in arm.says.message
    arm.turn(lambda: f"/intruder on /{topic}" in arm.says.message)
    before, arm.width = arm.reading.width, 0.01
    until = time.monotonic() + 1.0
    arm.turn(lambda: time.monotonic() > until)
    assert arm.reading.width == pytest.approx(before, abs=0.002)
    intruder.destroy_publisher(publisher)
    arm.turn(lambda: arm.says.message.endswith("active: follows commands"))
    assert arm.says.level == DiagnosticStatus.OK
    arm.turn(lambda: arm.reading.width == pytest.approx(0.01))


@pytest.mark.graph
def test_a_message_of_one_who_has_gone_before_it_is_heard_moves_nothing(arm: Arm) -> None:
    intruder = arm.ros.node("intruder")
    publisher = intruder.create_publisher(Float64MultiArray, "gripper_controller/commands", RELIABLE_1)
    eventually(lambda: publisher.get_subscription_count() > 0)  # nothing is heard meanwhile: nobody spins
    publisher.publish(Float64MultiArray(data=[0.0]))
    intruder.destroy_publisher(publisher)
    eventually(lambda: arm.driver.count_publishers("gripper_controller/commands") == 1)
    arm.ros.spin_until(lambda: arm.driver._driver._dispute)
    ticks = [arm.driver._driver.tick(time.monotonic() + 0.01 * turn) for turn in range(50)]
    assert ticks[-1] is not None and ticks[-1].width == pytest.approx(arm.width, abs=0.002)
    arm.turn(lambda: arm.says.message.endswith("active: follows commands"))
