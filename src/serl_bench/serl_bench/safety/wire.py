# SPDX-License-Identifier: Apache-2.0
"""How soon a policy's action is on the wire of an arm, and how evenly targets come there: the graph of real.launch.xml.

The arm is a bus of emulated servos at a pseudo-terminal in this process; each goes where it is sent at once.
"""

from __future__ import annotations

import functools
import math
import time
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np
from serl_feetech.calibration import ServoCalibration, write_calibration
from serl_feetech.emulated.bus import EmulatedBus
from serl_feetech.emulated.pseudo_terminal import PseudoTerminal
from serl_feetech.emulated.servo import EmulatedServo
from serl_feetech.registers import GOAL_POSITION, TURN
from serl_launch.errors import CommandError
from serl_launch.graph_session import GraphSession
from serl_robots.model.robot import load_robot
from serl_ros.qos import LATCHED, LOOP_1, RELIABLE_1

from serl_bench.benchmark import Bench, Measurement
from serl_interfaces.msg import ActionCommand, ArmState, EpisodeStatus
from serl_tasks import get_task

ARM = "so101"
"""Robot and driver."""
TASK = f"pick_cube_{ARM}"
ACTIONS = 100
"""Actions whose way to the wire is measured."""
REST = 5
"""Steps without a motion before each of them: the arm stands then."""
RATE = 100.0  # [Hz] of targets, as the driver's file says
START_TIMEOUT = 60.0  # [s]
_MOVED = 1  # steps of the encoder that a goal changes by when the arm, which stood, is sent away


class WatchedBus(EmulatedBus):
    """Servos, and when their goals came and what these were."""

    def __init__(self, servos: list[EmulatedServo]) -> None:
        super().__init__(servos)
        self.goals: list[tuple[float, tuple[int, ...]]] = []
        """Local time [s, monotonic] and goals [steps] of each target for all servos."""

    def talk(self, data: bytes) -> bytes:
        """See `EmulatedBus.talk`."""
        asked = self.heard
        answer = super().talk(data)
        if self.heard > asked and not answer:  # what is told to all is the one thing that nobody answers
            self.goals.append((time.monotonic(), tuple(servo.value(GOAL_POSITION) for servo in self.servos)))
        return answer


def wire_latency_ms(bench: Bench) -> Measurement:
    """Milliseconds from a policy's action to the first target on the wire that moves the arm, 99th percentile."""
    latencies, _ = _measured(bench.scratch, bench)
    spread = f"{len(latencies)} actions; median {np.median(latencies):.1f}, largest {max(latencies):.1f}"
    return Measurement(
        float(np.percentile(latencies, 99, method="inverted_cdf")),
        spread,
        {"ms": [round(each, 2) for each in latencies]},
    )


def interp_jitter_ms(bench: Bench) -> Measurement:
    """Milliseconds by which the time between two targets on the wire differs from the period, 99th percentile."""
    _, errors = _measured(bench.scratch, bench)
    spread = f"{len(errors):,} targets; median {np.median(errors):.2f}, largest {max(errors):.1f}"
    return Measurement(float(np.percentile(errors, 99, method="inverted_cdf")), spread)


@functools.cache
def _measured(scratch: Path, bench: Bench) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Latencies of actions and errors of periods [ms]: both are of the same minute."""
    folder = scratch / "wire"
    bench.say(f"{ACTIONS} actions of a policy at 10 Hz, targets at {RATE:g} Hz")
    with _arm(folder) as (terminal, bus):
        arguments = {
            "task": TASK,
            "driver": ARM,
            "port": terminal.path,
            "calibration": str(folder / "arm.json"),
            "teleop": "none",
            "reward": "none",
            "cameras": "false",
            "console": "false",
            "learning_nodes": "false",
        }
        with GraphSession("real.launch.xml", arguments, name="bench wire", log_dir=folder / "log") as graph:
            graph.switch_on()
            sent = _act(graph)
            goals = list(bus.goals)
    latencies = tuple(1e3 * (_moved_at(goals, moment) - moment) for moment in sent)
    lost = sum(map(math.isinf, latencies))
    if lost:
        raise CommandError(f"{lost} of {len(sent)} actions have moved nothing before the next one; see {folder}/log")
    times = [moment for moment, _ in goals if sent[0] <= moment <= sent[-1]]
    errors = tuple(1e3 * abs(after - before - 1.0 / RATE) for before, after in pairwise(times))
    return latencies, errors


@contextmanager
def _arm(folder: Path) -> Iterator[tuple[PseudoTerminal, WatchedBus]]:
    """An arm that stands in its home configuration, gripper open, and the calibration beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    robot = load_robot(get_task(TASK).robot)
    angle, middle = 2.0 * math.pi / TURN, 2047.5
    names = (*robot.arm_joints, *robot.gripper.joints)
    servos = {name: ServoCalibration(number, 0, 0, 0, TURN - 1) for number, name in enumerate(names, start=1)}
    write_calibration(folder / "arm.json", servos)
    places = [middle + position / angle for position in robot.configuration("home")]
    bus = WatchedBus([EmulatedServo(number, place) for number, place in enumerate([*places, 1500.0], start=1)])
    with PseudoTerminal(bus) as terminal:
        yield terminal, bus


def _act(graph: GraphSession) -> list[float]:
    """Be the policy: stand, step up, stand, step down ...; local times [s] of the actions that move."""
    node, period = graph.client.node, get_task(TASK).control_period
    size = get_task(TASK).action_space.shape[0]
    command = ActionCommand(episode=1, active=True)

    def see(state: ArmState) -> None:
        command.header.stamp = state.header.stamp

    kept = node.create_subscription(ArmState, "arm/state", see, LOOP_1)
    publisher = node.create_publisher(ActionCommand, "policy/action", RELIABLE_1)
    episodes = node.create_publisher(EpisodeStatus, "episode", LATCHED)
    episodes.publish(EpisodeStatus(episode=1, mode=EpisodeStatus.MODE_TRAINING))
    if not graph.client.spin_until(lambda: command.header.stamp.sec > 0, START_TIMEOUT, graph.check):
        raise CommandError(f"waited {START_TIMEOUT:g} s for arm/state: the driver of an emulated arm")
    sent: list[float] = []
    due = time.monotonic()
    for step in range(ACTIONS * (REST + 1)):
        moves = step % (REST + 1) == REST
        up = 1.0 if len(sent) % 2 else -1.0
        command.step = step
        command.action = array("f", [0.0, 0.0, up if moves else 0.0, *[0.0] * (size - 3)])
        due += period
        graph.client.spin_until(lambda due=due: time.monotonic() >= due, 10.0, graph.check)  # type: ignore[misc]
        if moves:
            sent.append(time.monotonic())
        publisher.publish(command)
    graph.client.spin_until(lambda: False, 2.0 * period, graph.check)
    node.destroy_subscription(kept)
    return sent


def _moved_at(goals: list[tuple[float, tuple[int, ...]]], moment: float) -> float:
    """Local time of the first target after `moment` that is elsewhere than the one before; inf: none until the next."""
    before = [goal for at, goal in goals if at <= moment][-1:]
    for at, goal in goals:
        if at > moment and before and max(abs(a - b) for a, b in zip(goal, before[0], strict=True)) >= _MOVED:
            return at if at - moment < (REST + 1) * get_task(TASK).control_period else math.inf
    return math.inf
