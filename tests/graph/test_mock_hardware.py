# SPDX-License-Identifier: Apache-2.0
"""The graph around ros2_control's topics and actions, with an arm without physics behind them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sensor_msgs.msg import JointState
from serl_launch.graph_session import GraphSession
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

        def go(name: str) -> MoveTo.Result:
            sent = mover.send_goal_async(MoveTo.Goal(kind=MoveTo.Goal.KIND_NAMED, name=name))
            answer(sent.done, f"an answer about {name}")
            result = sent.result().get_result_async()
            answer(result.done, f"the end of the way to {name}")
            return result.result().result

        answer(mover.server_is_ready, "arm/move_to")
        answer(lambda: bool(states), "joint_states")
        while (result := go("ready")).termination_reason == "rejected":
            answer(lambda: bool(states), f"an arm controller that has heard of the arm: {result.message}")
        assert result.success, result.message
        result = go("home")
        assert result.success, result.message
        positions = dict(zip(states[-1].name, states[-1].position, strict=True))
        tool = kinematics.tcp(np.array([positions[joint] for joint in robot.arm_joints]))
        assert tool.position == pytest.approx(kinematics.tcp(robot.configuration("home")).position, abs=0.01)
