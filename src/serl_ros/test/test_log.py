# SPDX-License-Identifier: Apache-2.0
"""Log lines with text from outside: one printable line each, never an exception, never a flood."""

import re
import sys
from typing import Any

import pytest
from serl_ros.log import DEBUG, ERROR, FATAL, INFO, WARN, log


def test_every_level_may_come_from_one_place(ros: Any, capfd: pytest.CaptureFixture[str]) -> None:
    node = ros.node()
    for level in (WARN, INFO, ERROR, FATAL, DEBUG, INFO, WARN):
        log(node, level, f"{level.name} {{}} %s\n\x1b[31m\ud800")
    written = capfd.readouterr()
    assert written.err.count("{} %s\\n\\x1b[31m\\ud800") + written.out.count("{} %s\\n\\x1b[31m\\ud800") == 6


def test_a_long_line_is_cut_and_still_says_how_many_were_left_out(ros: Any, capfd: pytest.CaptureFixture[str]) -> None:
    node = ros.node()
    for _ in range(3):
        log(node, WARN, "x" * 10**6, throttle=60.0, key="a")
    log(node, WARN, "\x1b" * 10**6, throttle=1e-9, key="a")
    *_, before, last = capfd.readouterr().err.splitlines()
    assert len(before) < 700 and before.endswith("x")
    assert len(last) < 700 and last.endswith(" (and 2 more like it)")


def test_lines_of_one_kind_are_throttled_and_counted(ros: Any) -> None:
    node = ros.node()
    assert [log(node, WARN, f"text {n}", throttle=60.0) for n in range(5)] == [True, False, False, False, False]
    assert log(node, WARN, "another place", throttle=60.0)
    assert log(node, WARN, "a", throttle=60.0, key="a") and not log(node, ERROR, "b", throttle=60.0, key="a")
    assert log(ros.node("other"), WARN, "a", throttle=60.0, key="a")


_PROGRAM = """
import logging
import serl_rl
from rclpy.node import Node
from serl_ros.node import run_node

ours, theirs = logging.getLogger("serl_rl.storage.journal"), logging.getLogger("others")

class Speaking(Node):
    def __init__(self):
        super().__init__("speaking")
        ours.info("goes on \\n with %d", 3)
    def run(self, executor, stop):
        for _ in range(3):
            ours.warning("the same")
        theirs.info("nobody wants it")
        theirs.warning("of others")
        ours.error("wrong %s")
        try:
            raise KeyError("x")
        except KeyError:
            ours.exception("failed")

run_node(Speaking)
"""


@pytest.mark.graph
def test_what_libraries_say_is_in_the_nodes_log_with_its_level(processes: Any) -> None:
    node = processes.start(sys.executable, "-c", _PROGRAM)
    assert node.wait(60.0) == 0
    written = node.output()
    lines = [re.sub(r" \[[0-9.]+\]", "", line) for line in written.splitlines() if line.startswith("[")]
    assert lines == [
        "[INFO] [-c]: goes on \\n with 3",
        "[WARN] [speaking]: the same",
        "[WARN] [speaking]: of others",
        "[ERROR] [speaking]: wrong %s",
        "[ERROR] [speaking]: failed: KeyError: 'x'",
    ], written
    assert "Traceback" in written
