# SPDX-License-Identifier: Apache-2.0
"""A node process whose output nobody reads goes on with its work."""

import subprocess
import sys
from pathlib import Path

TALKER = """
import pathlib, sys
from rclpy.node import Node
from serl_ros.node import run_node

class Talker(Node):
    def __init__(self):
        super().__init__("talker")
        self.said = 0
        self.create_timer(0.001, self.talk)

    def talk(self):
        self.said += 1
        self.get_logger().warning("x" * 4000)
        if self.said == 100:
            pathlib.Path(sys.argv[1]).write_text("done")
            raise SystemExit(0)

run_node(Talker)
"""


def test_a_node_does_not_wait_for_whoever_reads_its_log(ros_domain: int, tmp_path: Path) -> None:
    done = tmp_path / "done"
    command = [sys.executable, "-c", TALKER, str(done)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        try:
            process.wait(20.0)
            assert done.read_text() == "done"
        finally:
            process.kill()
