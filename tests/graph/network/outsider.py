# SPDX-License-Identifier: Apache-2.0
"""Takes part in a ROS domain for some seconds, and says as a line of JSON what it saw, heard and could do.

usage: outsider.py SECONDS [--ros-args --enclave PATH]
"""

import json
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import rclpy
from geometry_msgs.msg import PoseStamped
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import qos_profile_sensor_data
from std_msgs.msg import Float64MultiArray
from std_srvs.srv import SetBool, Trigger

from serl_interfaces.msg import ArmState

COMMANDS = {"target_pose": PoseStamped, "gripper_controller/commands": Float64MultiArray}
SERVICES = {"arm/estop": (SetBool, SetBool.Request(data=True)), "arm/reset_estop": (Trigger, Trigger.Request())}


def main() -> None:
    """Take part."""
    seconds, *arguments = sys.argv[1:]
    rclpy.init(args=arguments)
    node = rclpy.create_node("graph_env", enable_rosout=False, start_parameter_services=False)
    own = {topic for topic, _ in node.get_topic_names_and_types()}
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    heard: list[ArmState] = []
    refused: dict[str, str] = {}

    def attempt(name: str, make: Callable[[], Any]) -> Any:
        try:
            return make()
        except Exception as error:  # noqa: BLE001 - the error of DDS is what is asked for
            refused[name] = str(error)
            return None

    state = attempt(
        "arm/state", lambda: node.create_subscription(ArmState, "arm/state", heard.append, qos_profile_sensor_data)
    )
    publishers = {name: attempt(name, partial(node.create_publisher, kind, name, 1)) for name, kind in COMMANDS.items()}
    clients = {name: attempt(name, partial(node.create_client, kind, name)) for name, (kind, _) in SERVICES.items()}
    made = {"arm/state": state, **publishers, **clients}
    futures: dict[str, Any] = {}
    end = time.monotonic() + float(seconds)
    while time.monotonic() < end:
        for name, publisher in publishers.items():
            if publisher is not None:
                publisher.publish(COMMANDS[name]())
        for name, client in clients.items():
            if client is not None and name not in futures:
                futures[name] = client.call_async(SERVICES[name][1])
        executor.spin_once(0.05)
    matched = {name: publisher.get_subscription_count() for name, publisher in publishers.items() if publisher}
    found = {
        "nodes": sorted(name for name in node.get_node_names() if name != node.get_name()),
        "topics": sorted(
            {topic for topic, _ in node.get_topic_names_and_types()} - own - {f"/{name}" for name in made}
        ),
        "heard": len(heard),
        "matched": {name: count for name, count in matched.items() if count},
        "answered": sorted(name for name, future in futures.items() if future.done()),
        "refused": refused,
    }
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
