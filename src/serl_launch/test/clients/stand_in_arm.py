# SPDX-License-Identifier: Apache-2.0
"""An arm that answers `arm/estop` and `arm/reset_estop` and says on stdout what it was asked.

Its command line is that of an arm controller when it is called so.

usage: stand_in_arm.py [deaf | foreign] [--ros-args -r __ns:=NAMESPACE]
"""

import os
import signal
import sys
from typing import Any

import rclpy
from std_srvs.srv import SetBool, Trigger

from serl_interfaces.msg import SafetyStatus


def main() -> None:
    """Serve until a signal comes."""
    rclpy.init()
    node = rclpy.create_node("arm_controller")
    node.create_publisher(SafetyStatus, "arm/safety", 1)

    def answer(what: str) -> Any:
        def call(_request: Any, response: Any) -> Any:
            print(what, flush=True)
            response.success = True
            return response

        return call

    if "deaf" not in sys.argv:
        node.create_service(SetBool, "arm/estop", answer("stop"))
        node.create_service(Trigger, "arm/reset_estop", answer("release"))
    signal.signal(signal.SIGUSR1, lambda *_: print("signal", flush=True))
    if "foreign" in sys.argv:
        os.setuid(12345)
    print("up", flush=True)
    while rclpy.ok():
        rclpy.spin_once(node, timeout_sec=0.1)


if __name__ == "__main__":
    main()
