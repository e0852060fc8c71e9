# SPDX-License-Identifier: Apache-2.0
"""`arm/move_to` round a post, by the nodes as processes: a goal behind it, a cancel, a stop, bad goals, no planner."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("ompl", reason="./serl setup planning")
from rclpy.action import ActionClient
from serl_launch.language.packages import find_executable
from serl_ros.qos import RELIABLE_10
from std_srvs.srv import SetBool, Trigger

from serl_interfaces.action import MoveTo
from serl_interfaces.msg import ArmState

pytestmark = pytest.mark.graph

TIMEOUT = 60.0  # [s]
LOW, HIGH = (0.47, -0.03, 0.0), (0.53, 0.03, 0.15)  # of the post [m]
LEFT, RIGHT = (0.5, 0.15, 0.08), (0.5, -0.15, 0.08)
LIMITS = ("-p", f"limits.keep_out:={[*LOW, *HIGH]}")


class Person:
    """Somebody who moves the arm and watches it."""

    def __init__(self, ros: Any) -> None:
        self.ros, self.node = ros, ros.node("somebody")
        self.states: list[ArmState] = []
        self.node.create_subscription(ArmState, "arm/state", self.states.append, RELIABLE_10)
        self.mover = ActionClient(self.node, MoveTo, "arm/move_to")

    def wait(self, condition: Any, what: str) -> None:
        self.ros.spin_until(condition, TIMEOUT, what)

    @property
    def tool(self) -> Any:
        position = self.states[-1].tcp_pose.position
        return np.array([position.x, position.y, position.z])

    def begin(self, position: tuple[float, float, float], scaling: float = 1.0) -> Any:
        """Send a goal; the accepted handle."""
        goal = MoveTo.Goal(kind=MoveTo.Goal.KIND_POSE, velocity_scaling=scaling)
        goal.pose.header.frame_id = "panda_link0"
        goal.pose.pose.position.x, goal.pose.pose.position.y, goal.pose.pose.position.z = position
        goal.pose.pose.orientation.x, goal.pose.pose.orientation.w = 1.0, 0.0
        future = self.mover.send_goal_async(goal)
        self.wait(future.done, "the goal is answered")
        assert future.result().accepted
        return future.result()

    def result(self, handle: Any) -> MoveTo.Result:
        future = handle.get_result_async()
        self.wait(future.done, "the motion ends")
        return future.result().result

    def under_way(self, position: tuple[float, float, float]) -> Any:
        """Send a goal and wait until the arm moves."""
        start, handle = self.tool, self.begin(position, 0.5)
        self.wait(lambda: np.linalg.norm(self.tool - start) > 0.03, "the arm moves")
        return handle

    def call(self, kind: type, name: str, request: Any) -> Any:
        client = self.node.create_client(kind, name)
        self.wait(client.service_is_ready, name)
        future = client.call_async(request)
        self.wait(future.done, name)
        return future.result()


def test_the_arm_goes_round_a_post_stops_when_it_is_told_to_and_says_why_it_does_not_go(
    ros: Any, processes: Any
) -> None:
    def start(package: str, name: str, *arguments: str) -> Any:
        command = str(find_executable(package, name, os.environ))
        return processes.start(command, "--ros-args", "-p", "task:=pick_cube", *arguments)

    start("serl_sim", "mujoco_bridge", "-p", "real_time_factor:=1.0")
    slow = ("-p", "limits.joint_state_timeout:=5.0")  # a busy machine may keep the bridge waiting for a while
    start("serl_robots", "arm_controller", "-p", "planned_motions:=true", *LIMITS, *slow)
    planner = start("serl_planning", "planner", *LIMITS)
    person = Person(ros)
    person.wait(person.mover.server_is_ready, "arm/move_to")
    person.wait(lambda: person.states and person.node.count_clients("plan_motion"), "the arm's state")
    person.wait(lambda: person.node.count_services("plan_motion"), "the planner")

    def go(position: tuple[float, float, float]) -> None:
        result = person.result(person.begin(position))
        assert result.success, f"{result.termination_reason}: {result.message}"
        assert np.linalg.norm(person.tool - position) < 0.01

    go(RIGHT)
    person.states.clear()
    go(LEFT)  # the post is in between
    tools = np.array([[s.tcp_pose.position.x, s.tcp_pose.position.y, s.tcp_pose.position.z] for s in person.states])
    assert not ((tools > LOW) & (tools < HIGH)).all(axis=1).any()

    handle = person.under_way(RIGHT)
    canceling = handle.cancel_goal_async()
    person.wait(canceling.done, "the cancel is answered")
    assert person.result(handle).termination_reason == "canceled"
    assert np.linalg.norm(person.tool - RIGHT) > 0.05

    handle = person.under_way(LEFT if person.tool[1] < 0.0 else RIGHT)
    assert person.call(SetBool, "arm/estop", SetBool.Request(data=True)).success
    assert person.result(handle).termination_reason == "estop"
    refused = person.result(person.begin(RIGHT))
    assert "e-stop is latched" in refused.message
    assert person.call(Trigger, "arm/reset_estop", Trigger.Request()).success

    for position, said in (
        ((0.5, 0.0, 0.6), "the goal is outside the workspace box"),
        ((0.5, 0.0, 0.08), "the goal is in a keep-out box"),
    ):
        refused = person.result(person.begin(position))
        assert refused.termination_reason == "rejected" and said in refused.message
    go(RIGHT)

    planner.stop()
    person.wait(lambda: not person.node.count_services("plan_motion"), "the planner is gone")
    refused = person.result(person.begin(LEFT))
    assert refused.termination_reason == "rejected"
    assert "the node planner does not offer /plan_motion; start it" in refused.message
