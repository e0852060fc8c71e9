# SPDX-License-Identifier: Apache-2.0
"""Benchmark of a person who takes the arm over by a leader arm, and lets go, again and again."""

import os
from concurrent.futures import ProcessPoolExecutor
from typing import Final

from serl_teleop.benchmarks.takeovers import Jumps, take_over

from serl_bench.benchmark import Bench, Measurement
from serl_tasks import get_task

TAKEOVERS: Final = 10_000
TASKS: Final = ("pick_cube", "insert_connector")
"""Whose actions are taken by turns: the tool moves in the frame of the base, or turns, too."""
_PART: Final = 250  # takeovers in one piece of work
_ROUNDING: Final = 9  # decimals of what a step is of its limit


def takeover_max_step(bench: Bench) -> Measurement:
    """Largest step of the commanded tool, of way or turn, in step limits."""
    parts, found = TAKEOVERS // _PART, Jumps()
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for jumps in pool.map(_part, range(parts)):
            found.add(jumps)
            bench.say(f"{found.releases} of {TAKEOVERS} takeovers and releases, largest step {found.step:.6f}")
    details = {
        "takeovers": found.takeovers,
        "releases": found.releases,
        "first_step": found.first_step,
        "asked_at_takeover": found.asked,
        "commands": found.commands,
        "led": found.led,
    }
    spread = (
        f"{found.takeovers:,} takeovers, {found.releases:,} releases, {found.commands:,} commands; the takeover "
        f"itself asks for {found.asked:.0e} of an action"
    )
    return Measurement(round(found.step, _ROUNDING), spread, details)


def _part(seed: int) -> Jumps:
    return take_over([get_task(name) for name in TASKS], _PART, seed)
