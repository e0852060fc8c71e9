# SPDX-License-Identifier: Apache-2.0
"""Sends a goal to the actor of the domain, and writes what it hears, a line of JSON each: train_goal.py FILE GOAL."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from rclpy.action import ActionClient
from serl_launch.clients.client_node import Client

from serl_interfaces.action import Train


def main() -> None:
    """Write feedback as it comes; the last line is the result."""
    file, goal = sys.argv[1:]
    with Client() as client, Path(file).open("w", encoding="utf-8", buffering=1) as lines:

        def hear(message: Any) -> None:
            told = message.feedback
            heard = {"stage": told.stage, "env_steps": told.env_steps, "waiting": told.waiting}
            lines.write(json.dumps(heard) + "\n")

        train = ActionClient(client.node, Train, "train")
        client.spin_until(train.server_is_ready, 120.0)
        sent = train.send_goal_async(Train.Goal(**json.loads(goal)), feedback_callback=hear)
        client.spin_until(sent.done, 30.0)
        result = sent.result().get_result_async()
        client.spin_until(result.done, float("inf"))
        ended = result.result().result
        heard = {"stage": ended.termination_reason, "env_steps": ended.env_steps, "waiting": ended.message}
        lines.write(json.dumps(heard) + "\n")


if __name__ == "__main__":
    main()
