# SPDX-License-Identifier: Apache-2.0
"""What drivers publish, for the benchmark of recording: ``python -m ...drivers_node SECONDS``.

Two cameras of 640x480 at 30 Hz and joint states at 100 Hz, on time as long as the machine keeps up. It begins when all
topics are listened to, and ends when everything has been acknowledged.
"""

import sys
import threading
import time

import numpy as np
from builtin_interfaces.msg import Time
from rclpy.duration import Duration
from rclpy.node import Node
from sensor_msgs.msg import Image, JointState
from serl_ros.execution.executor import FastExecutor
from serl_ros.images import image_message
from serl_ros.node import run_node
from serl_ros.qos import RELIABLE_10

CAMERAS = ("front", "wrist")
SIZE = (480, 640, 3)
RATE, STATE_RATE = 30.0, 100.0  # [Hz]
_SETTLE = 2.0  # [s]
_TIMEOUT = 60.0  # [s] for the recorder to come


def topics() -> dict[str, float]:
    """What is published, and how often [Hz]."""
    return {f"/{camera}/color/image_raw": RATE for camera in CAMERAS} | {"/joint_states": STATE_RATE}


class Drivers(Node):
    """Publishes for a time [s], and then prints how long that has taken [s]."""

    def __init__(self, seconds: float) -> None:
        super().__init__("drivers")
        self._seconds = seconds
        names = [f"{camera}/color/image_raw" for camera in CAMERAS]
        self._images = [self.create_publisher(Image, name, RELIABLE_10) for name in names]
        self._states = self.create_publisher(JointState, "joint_states", RELIABLE_10)
        noise = np.random.default_rng(0)
        self._pictures = [noise.integers(0, 256, SIZE, dtype=np.uint8) for _ in range(4)]

    def run(self, executor: FastExecutor, stop: threading.Event) -> None:
        """Publish; both kinds on a schedule of their own that begins at once."""
        publishers = [*self._images, self._states]
        begun = time.monotonic()
        while not all(publisher.get_subscription_count() for publisher in publishers):
            if stop.is_set() or time.monotonic() > begun + _TIMEOUT:
                return
            executor.spin_once(0.05)
        settled = time.monotonic() + _SETTLE
        while time.monotonic() < settled:  # the other side learns of us later than we of it
            executor.spin_once(0.05)
        begun = time.monotonic()
        schedule = sorted(
            (index / rate, kind, index)
            for kind, rate in enumerate((RATE, STATE_RATE))
            for index in range(round(self._seconds * rate))
        )
        for at, kind, index in schedule:
            if stop.is_set():
                return
            time.sleep(max(0.0, begun + at - time.monotonic()))
            self._publish(kind, index)
        took = time.monotonic() - begun
        for publisher in publishers:
            publisher.wait_for_all_acked(Duration(seconds=10))
        print(f"published {took:.3f}", flush=True)
        stop.set()

    def _publish(self, kind: int, index: int) -> None:
        if kind == 1:
            self._states.publish(JointState(position=[float(index)] * 7))
            return
        for camera, publisher in zip(CAMERAS, self._images, strict=True):
            picture = self._pictures[index % len(self._pictures)]
            publisher.publish(image_message(picture, Time(sec=index), f"{camera}_color_optical_frame"))


def main() -> None:
    """Entry point."""
    run_node(lambda: Drivers(float(sys.argv[1])), args=[])


if __name__ == "__main__":
    main()
