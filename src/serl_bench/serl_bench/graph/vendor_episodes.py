# SPDX-License-Identifier: Apache-2.0
"""A scripted person's episodes through vendors' clients at their emulators: real.launch.xml in real time."""

from __future__ import annotations

import os
import time
from dataclasses import asdict, dataclass

from serl_drivers.config import driver_names, load_driver
from serl_launch.errors import CommandError
from serl_launch.graph_session import GraphSession

from serl_bench.benchmark import Bench, Measurement
from serl_interfaces.action import Record

TASK = "pick_cube"
EMULATED = "_emulated"
"""End of the names of drivers whose arm is emulated by what its vendor's client talks to."""
EPISODES = 20
LONGEST = 400.0
"""Time that a robot has for all its episodes, the start of the graph included [s]."""


@dataclass(frozen=True)
class Episodes:
    """What a person has done with one robot.

    Attributes:
        successes: how often the cube was picked.
        attempts: how often it was tried.
        seconds: time since the start of the graph [s].
        load: average load of the machine over the last minute, that of the graph included.
    """

    successes: int
    attempts: int
    seconds: float
    load: float


class _Enough(Exception):
    """Episodes have been tried as often as was wanted."""


def vendor_episodes(bench: Bench) -> Measurement:
    """Episodes of 20 in which the cube is picked, of the robot with the fewest.

    Raises:
        CommandError: a vendor's client or emulator is not installed, or a graph broke.
    """
    emulators = {
        name.removesuffix(EMULATED): emulator
        for name in driver_names()
        if name.endswith(EMULATED) and (emulator := load_driver(name).emulator) is not None
    }
    for robot, emulator in emulators.items():
        if emulator.missing:
            raise CommandError(f"robot {robot}: {emulator.missing}")
    found = {}
    for robot, emulator in emulators.items():
        found[robot] = each = episodes(bench, robot, has_address=bool(emulator.command))
        bench.say(f"  {robot}: {each.successes} of {each.attempts} in {each.seconds:.0f} s, load {each.load:.1f}")
    spread = ", ".join(f"{robot} {each.successes}, load {each.load:.0f}" for robot, each in found.items())
    return Measurement(
        float(min(each.successes for each in found.values())),
        spread,
        {robot: asdict(each) for robot, each in found.items()},
    )


def episodes(bench: Bench, robot: str, *, has_address: bool) -> Episodes:
    """Let the person of one robot try `EPISODES` times.

    Args:
        bench: gives seed and folder.
        robot: whose task it is.
        has_address: whether its emulator is a program at an address.
    """
    folder = bench.scratch / f"vendor-{robot}"
    arguments = {
        "task": TASK,
        "robot": robot,
        "hardware": "emulated",
        "learner": "false",
        "console": "false",
        "run_dir": str(folder / "run"),
    }
    if has_address:
        # Its ports are fixed: an address of this process alone keeps two starts on a machine apart.
        arguments["port"] = f"127.96.{os.getpid() >> 8 & 0xFF}.{os.getpid() & 0xFF or 1}"
    began = time.monotonic()
    counts = (0, 0)

    def count(feedback: Record.Feedback) -> None:
        nonlocal counts
        if counts[1] < EPISODES:
            counts = (feedback.episodes, feedback.attempts)

    def watch() -> None:
        if counts[1] >= EPISODES or time.monotonic() - began > LONGEST:
            raise _Enough

    with GraphSession("real.launch.xml", arguments, name="bench vendor", log_dir=folder / "log") as graph:
        graph.switch_on()
        goal = Record.Goal(episodes=EPISODES, seed=bench.seeds[0], path=str(folder / "picks.serl"))
        try:
            result = graph.run_action(Record, "record", goal, executable="actor", on_feedback=count, tick=watch)
            counts = counts if counts[1] >= EPISODES else (result.episodes, result.attempts)
        except _Enough:
            graph.check()
        successes, attempts = counts
        return Episodes(successes, attempts, time.monotonic() - began, os.getloadavg()[0])
