# SPDX-License-Identifier: Apache-2.0
"""The graph around ros2_control's topics and actions, with an arm without physics behind them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sensor_msgs.msg import JointState
from serl_launch.graph_session import GraphSession
from serl_robots.arm_messages_node import fill_pose
from serl_robots.model.kinematics import Kinematics
from serl_robots.model.robot import load_robot
from serl_ros.qos import RELIABLE_1

pytestmark = pytest.mark.graph

PATIENCE = 120.0  # [s]


@pytest.mark.timeout(240)
@pytest.mark.parametrize("low_level", ["joint_trajectory", "forward_position", "cartesian"])
def test_the_arm_goes_where_it_is_sent_and_home_by_each_controller(ros: Any, tmp_path: Path, low_level: str) -> None:
    from rclpy.action import ActionClient

    from serl_interfaces.action import MoveTo

    arguments = {
        "task": "pick_cube",
        "hardware": "mock",
        "low_level": low_level,
        "reward": "none",
        "teleop": "none",
        "learning_nodes": "false",
        "cameras": "false",
        "console": "false",
        "run_dir": str(tmp_path / "run"),
    }
    robot = load_robot("panda")
    kinematics = Kinematics(robot)
    node = ros.node("operator")
    states: list[JointState] = []
    node.create_subscription(JointState, "joint_states", lambda message: states.append(message), RELIABLE_1)
    mover = ActionClient(node, MoveTo, "arm/move_to")
    with GraphSession("real.launch.xml", arguments, name="test", log_dir=tmp_path / "log") as session:

        def answer(done: Callable[[], bool], what: str) -> None:
            ros.spin_until(lambda: session.check() or done(), PATIENCE, what)

        def go(joints: NDArray[np.float64]) -> MoveTo.Result:
            """Go there by joints, or by the tool where the controller has the elbow."""
            goal = MoveTo.Goal(kind=MoveTo.Goal.KIND_JOINTS)
            goal.joints.name, goal.joints.position = list(robot.arm_joints), list(joints)
            if low_level == "cartesian":
                goal = MoveTo.Goal(kind=MoveTo.Goal.KIND_POSE)
                goal.pose.header.frame_id = robot.base_frame
                fill_pose(goal.pose.pose, kinematics.tcp(joints))
            sent = mover.send_goal_async(goal)
            answer(sent.done, "an answer to a goal")
            result = sent.result().get_result_async()
            answer(result.done, "the end of a motion")
            return result.result().result

        def tool() -> NDArray[np.float64]:
            positions = dict(zip(states[-1].name, states[-1].position, strict=True))
            return kinematics.tcp(np.array([positions[joint] for joint in robot.arm_joints])).position

        answer(mover.server_is_ready, "arm/move_to")
        answer(lambda: bool(states), "joint_states")
        home = np.array(robot.configuration("home"))
        away = home + np.array([0.2, 0.05, 0.0, 0.05, 0.0, 0.0, 0.2])
        deadline = time.monotonic() + PATIENCE
        while not (result := go(away)).success and time.monotonic() < deadline:
            pass  # the driver is not connected yet, or the arm controller has not heard of the arm
        assert result.success, result.message
        assert tool() == pytest.approx(kinematics.tcp(away).position, abs=0.02)
        result = go(home)
        assert result.success, result.message
        assert tool() == pytest.approx(kinematics.tcp(home).position, abs=0.02)
