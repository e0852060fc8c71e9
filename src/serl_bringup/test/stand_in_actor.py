# SPDX-License-Identifier: Apache-2.0
"""A process that offers the `train` action, for tests of the command line: it sends metrics and ends as it is told.

usage: stand_in_actor.py (goal | fail | wait | die-once FILE)
"""

import os
import sys
import time
from pathlib import Path
from typing import Any

import rclpy
from rclpy.action import ActionServer
from serl_ros.qos import RELIABLE_50

from serl_interfaces.action import Train
from serl_interfaces.msg import Metrics


def main() -> None:
    """Serve until a signal comes."""
    role, *rest = sys.argv[1:]
    rclpy.init()
    node = rclpy.create_node("actor")
    publisher = node.create_publisher(Metrics, "metrics", RELIABLE_50)

    def execute(goal: Any) -> Train.Result:
        goal.publish_feedback(Train.Feedback(stage="waiting" if role == "wait" else "training", env_steps=1))
        if role == "die-once" and not Path(rest[0]).exists():
            Path(rest[0]).touch()
            print("dying now", flush=True)
            os._exit(1)
        publisher.publish(Metrics(node="actor", env_steps=5, names=["eval/success_rate"], values=[0.96]))
        while role == "wait":
            time.sleep(0.1)
        time.sleep(0.2)
        if role == "fail":
            goal.abort()
            return Train.Result(termination_reason="failed", message="the gripper fell off")
        goal.succeed()
        return Train.Result(
            success=True, termination_reason="goal", env_steps=5, env_steps_to_goal=5, success_rate=0.96
        )

    ActionServer(node, Train, "train", execute)
    print("stand-in actor is up", file=sys.stderr, flush=True)
    rclpy.spin(node)


if __name__ == "__main__":
    main()
