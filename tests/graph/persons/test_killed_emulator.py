# SPDX-License-Identifier: Apache-2.0
"""An arm's emulator is killed in motion, in the whole graph: nobody leads the arm until it is connected again."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from own_address import own_address
from serl_drivers.config import load_driver
from serl_launch.graph_session import GraphSession

pytestmark = pytest.mark.graph

ROBOT = "trossen"
SERL = (sys.executable, "-m", "serl_cli")
EPISODES = 3


@pytest.mark.timeout(240)
def test_an_emulator_that_is_killed_in_motion_pauses_a_recording_until_the_driver_is_connected_again(
    processes: Any, tmp_path: Path
) -> None:
    emulator = load_driver(f"{ROBOT}_emulated").emulator
    assert emulator is not None
    if emulator.missing:
        pytest.skip(emulator.missing)
    from diagnostic_msgs.msg import DiagnosticArray
    from geometry_msgs.msg import Point, PoseStamped
    from serl_ros.qos import LATCHED, LOOP_1, RELIABLE_10

    from serl_interfaces.action import Record
    from serl_interfaces.msg import ArmState, EpisodeStatus, SafetyStatus

    address = own_address()
    arguments = {
        "task": "pick_cube", "robot": ROBOT, "hardware": "emulated", "port": address,
        "learner": "false", "console": "false", "run_dir": str(tmp_path / "run"),
    }  # fmt: skip
    speeds: list[float] = []  # of the tool [m/s]
    targets: list[Point] = []
    safety: list[SafetyStatus] = []
    modes: list[int] = []  # of episodes
    paused: list[str] = []
    killed: list[int] = []
    before: list[int] = []  # targets that were sent before the first report of the pause
    moved: list[Point] = []  # those between this one and the connection
    connecting: list[Any] = []

    def on_state(message: ArmState) -> None:
        speed = message.tcp_velocity.linear
        speeds.append(max(abs(speed.x), abs(speed.y), abs(speed.z)))

    def on_diagnostics(message: DiagnosticArray) -> None:
        jobs = [status.message for status in message.status if status.name == "actor: job"]
        paused.extend(each for each in jobs if each.startswith("paused by the driver"))

    def tick() -> None:
        """Kill what stands for the arm while it moves, and when all have said so, connect to the next one."""
        if not killed and modes[-1:] == [EpisodeStatus.MODE_DEMONSTRATION] and max(speeds[-1:], default=0.0) > 0.1:
            killed.extend(running(address))
            for pid in killed:
                os.kill(pid, signal.SIGKILL)
        if paused and not before:
            before.append(len(targets))
        if len(paused) >= 3 and not connecting:
            moved.extend(targets[before[0] :])
            connecting.append(processes.start(*SERL, "driver", "connect"))
        if connecting and connecting[-1].poll() not in (None, 0):  # the next one takes its time on a busy machine
            connecting.append(processes.start(*SERL, "driver", "connect"))

    with GraphSession("real.launch.xml", arguments, name="test", log_dir=tmp_path / "log") as session:
        session.switch_on()
        node = session.client.node
        kept = [
            node.create_subscription(ArmState, "arm/state", on_state, LOOP_1),
            node.create_subscription(
                PoseStamped, "target_pose", lambda m: targets.append(m.pose.position), RELIABLE_10
            ),
            node.create_subscription(EpisodeStatus, "episode", lambda message: modes.append(message.mode), LATCHED),
            node.create_subscription(SafetyStatus, "arm/safety", safety.append, LATCHED),
            node.create_subscription(DiagnosticArray, "/diagnostics", on_diagnostics, 10),
        ]
        goal = Record.Goal(episodes=EPISODES, seed=0, path=str(tmp_path / "picks.serl"))
        result = session.run_action(Record, "record", goal, executable="actor", on_feedback=lambda _: None, tick=tick)
        for subscription in kept:
            node.destroy_subscription(subscription)
    assert result.success, result.message
    assert result.episodes == EPISODES
    assert len(killed) == 1
    assert connecting[-1].wait() == 0
    assert "driver connect" in paused[0] and address in paused[0]
    assert any("the connection is lost" in status.reason for status in safety)
    assert len({(each.x, each.y, each.z) for each in moved}) <= 1, "nobody leads it while its driver moves nothing"
    assert before[0] < len(targets), "and then it is led again"


def running(address: str) -> list[int]:
    """Processes of the emulator at an address."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = file.read_bytes().decode(errors="replace")
        except OSError:  # it has ended
            continue
        if address in command and f"{ROBOT}-arm-sim" in command:
            found.append(int(file.parent.name))
    return found
