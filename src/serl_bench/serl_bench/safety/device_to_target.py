# SPDX-License-Identifier: Apache-2.0
"""How soon the arm is led by a hand that pushes a SpaceMouse, through the launch file's own graph in real time."""

import json
import math
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from serl_launch.errors import CommandError
from serl_launch.graph_session import GraphSession
from serl_ros.qos import LATCHED, LOOP_10
from serl_teleop.devices.hid.emulated import PipedSpaceMouse

from serl_bench.benchmark import Bench, Measurement
from serl_bench.peer_processes import start, stop
from serl_bench.safety.stopping import TASK, Commands, peer
from serl_interfaces.msg import ActionCommand, ArmState, SafetyStatus

PUSHES = 50
START_TIMEOUT = 40.0  # [s]
_REPORT_PERIOD = 0.02  # [s]
_FULL = 300  # counts, of some 350
_LED = 1e-4  # [m] of a step upwards or downwards, which nobody else makes
_STANDING = 0.5  # [s] without a command
_BUTTON = 0b01
_DEADMAN, _TOUCH = ("left=lead",), ("right=success",)


class PushedCap:
    """A hand at a SpaceMouse that reports at 50 Hz while it is away from rest, never quite the same."""

    def __init__(self, mouse: PipedSpaceMouse) -> None:
        self._mouse, self._counts, self._gone = mouse, 0, threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._report, name="cap", daemon=True)
        self._thread.start()

    def push(self, up: int, *, button: bool) -> float:
        """Push the cap up, or down, then press the button; returns the local time of the first report [s, monotonic].

        In this order: who presses first leads an arm that stands, and moves it with the next control period.
        """
        with self._lock:
            now = time.monotonic()
            self._counts = -up
            self._mouse.move(0, 0, self._counts, 0, 0, 0)
            if button:
                self._mouse.press(_BUTTON)
        return now

    def let_go(self) -> None:
        """Let the cap and all buttons go."""
        with self._lock:
            self._counts = 0
            self._mouse.move(0, 0, 0, 0, 0, 0)
            self._mouse.press(0)

    def close(self) -> None:
        """Let go, and report no more."""
        self.let_go()
        self._gone.set()
        self._thread.join()

    def _report(self) -> None:
        wobble = 0
        while not self._gone.wait(_REPORT_PERIOD):
            with self._lock:
                if self._counts:
                    wobble = (wobble + 1) % 7
                    self._mouse.move(0, 0, self._counts + wobble, 0, 0, 0)


class Pushes:
    """Pushes a cap again and again, and keeps what came of it."""

    def __init__(self, graph: GraphSession, cap: PushedCap) -> None:
        self._graph, self._cap = graph, cap
        self._commands = Commands()
        self._mode, self._states = SafetyStatus.MODE_IDLE, 0
        self._said = math.inf
        node = graph.client.node
        self._kept = [
            *self._commands.listen(node),
            node.create_subscription(SafetyStatus, "arm/safety", self._on_safety, LATCHED),
            node.create_subscription(ArmState, "arm/state", self._on_state, LOOP_10),
            node.create_subscription(ActionCommand, "teleop/action", self._on_action, LOOP_10),
        ]
        self.targets: list[float] = []
        """[ms] from the first report to the first target, of each push."""
        self.actions: list[float] = []
        """[ms] from the first report to the device's first message."""

    def _on_safety(self, message: SafetyStatus) -> None:
        self._mode = message.mode

    def _on_state(self, _: ArmState) -> None:
        self._states += 1

    def _on_action(self, message: ActionCommand) -> None:
        if message.active and math.isinf(self._said):
            self._said = time.monotonic()

    def run(self, mode: int, *, button: bool) -> None:
        """Push while the arm is led as `mode` says, at random times."""
        rng = random.Random(0)
        self._wait(lambda: self._states > 0, "arm/state")
        self._wait(lambda: self._graph.client.node.count_publishers("teleop/action") > 0, "the node teleop")
        self._watch(1.0)  # the device is opened, and has to have been at rest
        for number in range(PUSHES):
            self._wait(lambda: self._mode == mode, "nobody leads by the device")
            if mode == SafetyStatus.MODE_IDLE:  # it brakes, and is then led to where it came to rest
                self._wait(self._stands, "the arm stands")
            self._watch(rng.uniform(0.35, 0.65))
            self._push(_FULL if number % 2 else -_FULL, button=button)

    def _push(self, up: int, *, button: bool) -> None:
        """Push the cap until the arm is led."""
        self._said, seen = math.inf, len(self._commands.values)
        pushed = self._cap.push(up, button=button)
        self._wait(lambda: math.isfinite(self._led_at(seen) + self._said), "led by the device")
        self.targets.append(1e3 * (self._led_at(seen) - pushed))
        self.actions.append(1e3 * (self._said - pushed))
        self._cap.let_go()

    def _stands(self) -> bool:
        times = self._commands.times
        return not times or time.monotonic() - times[-1] > _STANDING

    def _led_at(self, first: int) -> float:
        """Local time at which the tool was first commanded up or down, among the commands from `first` on."""
        values = self._commands.values
        for index in range(max(first, 1), len(values)):
            if abs(values[index][1][2] - values[index - 1][1][2]) > _LED:
                return self._commands.times[index]
        return math.inf

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        if not self._graph.client.spin_until(condition, START_TIMEOUT, self._graph.check):
            raise CommandError(f"waited {START_TIMEOUT:g} s for the graph: {what}")

    def _watch(self, seconds: float) -> None:
        self._graph.client.spin_until(lambda: False, seconds, self._graph.check)


def device_to_target_ms(bench: Bench) -> Measurement:
    """Milliseconds from a report to the first target that a person leads, 99th percentile, where the arm stands."""
    found: dict[str, Any] = {}
    with _pushes(bench, "held", _DEADMAN) as pushes:
        bench.say(f"{PUSHES} pushes: the arm stands, a button is held to lead")
        pushes.run(SafetyStatus.MODE_IDLE, button=True)
        found["held"], found["held, said"] = pushes.targets, pushes.actions
    with _pushes(bench, "policy", _DEADMAN) as pushes:
        bench.say(f"{PUSHES} pushes: a policy leads, 10 steps a second")
        policy = start(peer("policy"))
        try:
            pushes.run(SafetyStatus.MODE_POLICY, button=True)
        finally:
            stop(policy)
        found["policy"], found["policy, said"] = pushes.targets, pushes.actions
    with _pushes(bench, "touch", _TOUCH) as pushes:
        bench.say(f"{PUSHES} pushes: the arm stands, the cap alone")
        pushes.run(SafetyStatus.MODE_IDLE, button=False)
        found["touch"], found["touch, said"] = pushes.targets, pushes.actions
    p99 = {name: float(np.percentile(values, 99, method="inverted_cdf")) for name, values in found.items()}
    spread = (
        f"{PUSHES} pushes; median {np.median(found['held']):.1f}; p99 {p99['policy']:.0f} while a policy steps "
        f"at 10 Hz, {p99['touch']:.0f} by the cap alone; p99 until the device's message {p99['held, said']:.1f}"
    )
    return Measurement(p99["held"], spread, {name: [round(each, 2) for each in ms] for name, ms in found.items()})


@contextmanager
def _pushes(bench: Bench, name: str, buttons: Sequence[str]) -> Iterator[Pushes]:
    """The graph of the launch file, led by an emulated SpaceMouse."""
    folder = bench.scratch / name
    mouse = PipedSpaceMouse(folder)
    arguments = {
        "task": TASK,
        "real_time_factor": "1.0",
        "learning_nodes": "false",
        "reward": "none",
        "teleop": "spacemouse",
        "teleop_settings": str(_settings(folder, mouse, buttons)),
    }
    with GraphSession("sim.launch.xml", arguments, name="bench device", log_dir=folder / "log") as graph:
        cap = PushedCap(mouse)
        try:
            yield Pushes(graph, cap)
        finally:
            cap.close()
            mouse.unplug()


def _settings(folder: Path, mouse: PipedSpaceMouse, buttons: Sequence[str]) -> Path:
    """A file of settings, which says where the device is and what its buttons do, and nothing else."""
    spacemouse = {"sysfs": str(mouse.sysfs), "dev": str(mouse.dev), "buttons": [*buttons]}
    path = folder / "teleop.yaml"
    path.write_text(json.dumps({"/**": {"ros__parameters": {"spacemouse": spacemouse}}}), encoding="utf-8")
    return path
