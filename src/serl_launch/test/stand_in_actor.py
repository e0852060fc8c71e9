# SPDX-License-Identifier: Apache-2.0
"""A process that offers the `train` action, for tests of the command line: it sends metrics and ends as it is told.

usage: stand_in_actor.py (goal | fail | wait | refuse | slow | die-at-accept | die-once | die-at-end) [FILE]

FILE gets a line for each goal that is carried out; FILE.go ends that of `slow`. The second process for one FILE does
not die any more.
"""

import os
import sys
import time
from pathlib import Path
from typing import Any

import rclpy
from rclpy.action import ActionServer, GoalResponse
from serl_ros.qos import RELIABLE_50

from serl_interfaces.action import Train
from serl_interfaces.msg import Metrics


def main() -> None:
    """Serve until a signal comes."""
    role, *rest = sys.argv[1:]
    file = Path(rest[0]) if rest else None
    mortal = file is not None and not file.exists()
    rclpy.init()
    node = rclpy.create_node("actor")
    publisher = node.create_publisher(Metrics, "metrics", RELIABLE_50)

    def die_if(at: str) -> None:
        if role == at and mortal:
            print("dying now", flush=True)
            os._exit(1)

    def admit(goal: Train.Goal) -> GoalResponse:
        if file is not None:
            file.touch()
        die_if("die-at-accept")
        return GoalResponse.REJECT if role == "refuse" else GoalResponse.ACCEPT

    def execute(goal: Any) -> Train.Result:
        if file is not None:
            with file.open("a") as lines:
                lines.write(f"{bytes(goal.goal_id.uuid).hex()}\n")
        goal.publish_feedback(Train.Feedback(stage="waiting" if role == "wait" else "training", env_steps=1))
        die_if("die-once")
        publisher.publish(Metrics(node="actor", env_steps=5, names=["eval/success_rate"], values=[0.96]))
        while role == "wait":
            time.sleep(0.1)
        left = 2
        while left or (role == "slow" and file is not None and not file.with_suffix(".go").exists()):
            left = max(left - 1, 0)
            time.sleep(0.1)
            goal.publish_feedback(Train.Feedback(stage="training", env_steps=2))
        if role == "slow":
            print("finishing", flush=True)
        if role == "fail":
            goal.abort()
            return Train.Result(termination_reason="failed", message="the gripper fell off")
        goal.succeed()
        die_if("die-at-end")
        return Train.Result(
            success=True, termination_reason="goal", env_steps=5, env_steps_to_goal=5, success_rate=0.96
        )

    ActionServer(node, Train, "train", execute, goal_callback=admit)
    print("stand-in actor is up", file=sys.stderr, flush=True)
    while rclpy.ok():
        rclpy.spin_once(node, timeout_sec=0.1)
        if role == "slow" and not node.count_subscribers("train/_action/feedback"):
            print("alone", flush=True)


if __name__ == "__main__":
    main()
