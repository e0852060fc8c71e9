# SPDX-License-Identifier: Apache-2.0
"""A node ends soon after it is told to, whatever it is doing."""

import signal
import sys
import time
from typing import Any

import pytest

pytestmark = pytest.mark.graph

# What keeps the main thread: a library that lets other threads run, and that no signal interrupts.
_BUSY = 'hashlib.pbkdf2_hmac("sha512", b"", b"", 100_000_000)'

_PROGRAM = """
import hashlib, sys, time
import rclpy
from rclpy.node import Node
from serl_ros.node import run_node

def busy(when):
    if when == {when!r}:
        print("now", flush=True)
        {what}

class Busy(Node):
    def __init__(self):
        super().__init__("busy")
        busy("made")
    def run(self, executor, stop):
        busy("running")
        while not stop.is_set():
            executor.spin_once(0.1)
    def close(self):
        print("closed", flush=True)

run_node(Busy)
"""

_WITH_A_SIGNAL_OF_ITS_OWN = """
import os, signal, threading
from rclpy.node import Node
from serl_ros import node
from serl_ros.node import run_node

node._STUCK = 0.1
signal.signal(signal.SIGUSR1, lambda *_: None)

class Waiting(Node):
    def run(self, executor, stop):
        os.kill(os.getpid(), signal.SIGUSR1)
        stop.wait(1.0)
        print("lives", flush=True)

run_node(lambda: Waiting("waiting"))
"""


@pytest.mark.parametrize(
    ("when", "what", "number", "closed"),
    [
        ("made", "time.sleep(60)", signal.SIGTERM, False),
        ("made", _BUSY, signal.SIGINT, False),
        ("running", _BUSY, signal.SIGINT, False),
        ("running", "pass", signal.SIGINT, True),
    ],
)
def test_a_node_ends_when_it_is_told_to(
    processes: Any, when: str, what: str, number: signal.Signals, closed: bool
) -> None:
    node = processes.start(sys.executable, "-c", _PROGRAM.format(when=when, what=what))
    deadline = time.monotonic() + 60.0
    while "now" not in node.output():
        assert time.monotonic() < deadline, node.output()
        time.sleep(0.02)
    node.send(number)
    assert node.wait(25.0) == 0
    assert ("closed" in node.output()) is closed
    assert "Traceback" not in node.output()


def test_another_signal_ends_no_node(processes: Any) -> None:
    node = processes.start(sys.executable, "-c", _WITH_A_SIGNAL_OF_ITS_OWN)
    assert node.wait(30.0) == 0
    assert "lives" in node.output()
