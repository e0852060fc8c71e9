# SPDX-License-Identifier: Apache-2.0
"""Benchmarks of seeing: from a camera's topic to an action."""

import statistics
import time

import numpy as np
from builtin_interfaces.msg import Time
from sensor_msgs.msg import Image
from serl_launch.clients.client_node import Client
from serl_launch.errors import CommandError
from serl_ros.images import image_message
from serl_ros.qos import RELIABLE_1, RELIABLE_10

from serl_bench.benchmark import Bench, Measurement
from serl_bench.graph.peers_node import Eyes
from serl_bench.graph.transport import peer
from serl_interfaces.msg import ActionCommand
from serl_launch import domain
from serl_tasks import get_task

SIZE = (640, 480)
RATE = 30.0  # [Hz]
PICTURES = 450
WARM_UP = 30
START_TIMEOUT = 60.0


def image_to_action_ms(bench: Bench) -> Measurement:
    """Time from before the pictures of two cameras are published until the action for them is back, p99 in ms."""
    cameras = get_task(Eyes.TASK).cameras
    pixels = np.random.default_rng(0).integers(0, 256, (SIZE[1], SIZE[0], 3), dtype=np.uint8)
    times: list[float] = []
    with domain.claim("bench image to action"), peer("eyes"), Client() as us:
        acted = 0

        def on_action(message: ActionCommand) -> None:
            nonlocal acted
            acted = message.step

        publishers = [us.node.create_publisher(Image, f"{name}/color/image_raw", RELIABLE_1) for name in cameras]
        us.node.create_subscription(ActionCommand, "policy/action", on_action, RELIABLE_10)
        if not us.spin_until(lambda: min(p.get_subscription_count() for p in publishers) > 0, START_TIMEOUT):
            raise CommandError("the policy did not start")
        lost = 0
        for number in range(1, PICTURES + WARM_UP + 1):
            started = time.perf_counter()
            for name, publisher in zip(cameras, publishers, strict=True):
                publisher.publish(image_message(pixels, Time(nanosec=number), f"{name}_color_optical_frame"))
            answered = us.spin_until(lambda number=number: acted == number, 1.0)  # type: ignore[misc]
            elapsed = time.perf_counter() - started
            if number > WARM_UP:
                times.append(1e3 * elapsed)
                lost += not answered
            us.spin_until(lambda: False, max(0.0, 1.0 / RATE - elapsed))
    spread = f"median {statistics.median(times):.1f}, max {max(times):.1f} of {len(times)} pairs, {lost} lost"
    return Measurement(float(np.percentile(times, 99)), spread, {"pictures": SIZE, "lost": lost})
