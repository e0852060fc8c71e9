# SPDX-License-Identifier: Apache-2.0
"""How soon the arm is commanded to hold when somebody dies: who leads, the driver, the arm behind it, or its cable.

The arm of the last three is an emulated SO-101 at a serial port, behind its driver; that of the others is its own body.
"""

import os
import random
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from serl_launch.clients.driver_node import bring
from serl_launch.language.packages import find_executable

from serl_bench.benchmark import Bench, Measurement
from serl_bench.peer_processes import stop
from serl_bench.safety.stopping import AFTERWARDS, START_TIMEOUT, Arm, an_arm, wait_led
from serl_interfaces.msg import SafetyStatus

DEATHS = 30
DRIVEN = "so101"
"""Robot and driver whose arm is emulated at a port."""
DRIVEN_TASK = f"pick_cube_{DRIVEN}"


def death_to_hold_s(bench: Bench) -> Measurement:
    """Seconds from a death until the arm is commanded to hold, the worst of all."""
    rng = random.Random(0)
    times: dict[str, list[float]] = {}
    with an_arm("bench deaths") as arm:
        _deaths_of_leaders(arm, bench, rng, times)
        _deaths_of_body(arm, bench, rng, times)
    with an_arm("bench deaths of arms", task=DRIVEN_TASK, has_body=False) as arm:
        _deaths_of_arms(arm, bench, rng, times)
    worst = {kind: max(each) for kind, each in times.items()}
    spread = ", ".join(f"{kind} {seconds:.3f}" for kind, seconds in worst.items())
    return Measurement(max(worst.values()), f"worst of {DEATHS} each: {spread}", {"s": times})


def _deaths_of_leaders(arm: Arm, bench: Bench, rng: random.Random, times: dict[str, list[float]]) -> None:
    for kind, role, mode in (
        ("policy", "policy", SafetyStatus.MODE_POLICY),
        ("device", "device", SafetyStatus.MODE_HUMAN),
        # a person who answers the policy's steps lives on, and has the last state to answer for ever
        ("answered policy", "policy", SafetyStatus.MODE_HUMAN),
    ):
        bench.say(f"{DEATHS} deaths: {kind}")
        person = arm.start("answerer") if kind == "answered policy" else None
        for _ in range(DEATHS):
            victim = arm.start(role)
            wait_led(arm, mode, kind)
            _measure(arm, kind, rng, times, victim)
            arm.wait(lambda: arm.safety[-1].mode == SafetyStatus.MODE_IDLE, "idle")
        if person is not None:
            stop(person)


def _deaths_of_body(arm: Arm, bench: Bench, rng: random.Random, times: dict[str, list[float]]) -> None:
    bench.say(f"{DEATHS} deaths: joint_states")
    arm.start("policy")
    for _ in range(DEATHS):
        wait_led(arm, SafetyStatus.MODE_POLICY, "policy")
        _measure(arm, "joint_states", rng, times, arm.body)
        arm.body = arm.start("body")


def _deaths_of_arms(arm: Arm, bench: Bench, rng: random.Random, times: dict[str, list[float]]) -> None:
    """The driver is killed; what is behind the port is killed, as an adapter that is pulled; or it falls silent."""
    folder = bench.scratch / "deaths"
    folder.mkdir(parents=True, exist_ok=True)
    vendor = arm.run(_node("serl_sim", "emulated_arm", task=DRIVEN_TASK, folder=folder))
    port = folder / "follower"
    driving = _node(
        "serl_drivers", "driver",
        task=DRIVEN_TASK, driver=DRIVEN, port=port, calibration=folder / "follower.json",
    )  # fmt: skip
    arm.wait(port.exists, f"the port {port}")
    driver = arm.run(driving)
    bring(arm.client, "hold", START_TIMEOUT)
    arm.start("policy")
    for kind in ("driver", "cable", "vendor"):
        bench.say(f"{DEATHS} deaths: {kind}")
        for _ in range(DEATHS):
            wait_led(arm, SafetyStatus.MODE_POLICY, "policy")
            if kind == "driver":
                _measure(arm, kind, rng, times, driver)
                driver = arm.run(driving)
            elif kind == "cable":
                _measure(arm, kind, rng, times, vendor, signal.SIGSTOP)
                vendor.send_signal(signal.SIGCONT)
            else:
                _measure(arm, kind, rng, times, vendor)
                port.unlink(missing_ok=True)
                vendor = arm.run(vendor.args)  # type: ignore[arg-type]
                arm.wait(port.exists, f"the port {port}")
            if kind != "driver":
                bring(arm.client, "connect", START_TIMEOUT)
            bring(arm.client, "hold", START_TIMEOUT)


def _node(package: str, executable: str, **parameters: str | Path) -> Sequence[str]:
    """The command of a node."""
    words = [word for name, value in parameters.items() for word in ("-p", f"{name}:={value}")]
    return [str(find_executable(package, executable, os.environ)), "--ros-args", *words]


def _measure(
    arm: Arm,
    kind: str,
    rng: random.Random,
    times: dict[str, list[float]],
    victim: subprocess.Popen[bytes],
    how: int = signal.SIGKILL,
) -> None:
    """One death of this kind, by that signal, some time after the arm began to move."""
    arm.watch(rng.uniform(0.1, 0.4))
    died = time.monotonic()
    victim.send_signal(how)
    if how == signal.SIGKILL:
        victim.wait()
    arm.watch(AFTERWARDS)
    times.setdefault(kind, []).append(arm.commands.held_after(died))
