# SPDX-License-Identifier: Apache-2.0
"""Benchmark of how much sooner several arms have learned a task than one."""

from __future__ import annotations

import os
import statistics

from serl_launch.errors import CommandError

from serl_bench.benchmark import Bench, Measurement
from serl_bench.graph.training_runs import DEMONSTRATIONS, MAX_ENV_STEPS, STATE, train

ACTORS = 4
REAL_TIME_FACTOR = 1
"""Simulated over wall time of each arm's world."""
EVALUATION = ("--eval-every", "500", "--eval-episodes", "20")  # they take as long as the learning, as on a real arm
TIMEOUT = 1800.0  # [s] of one run


def fleet_speedup(bench: Bench) -> Measurement:
    """Time to the goal of four arms over that of one, both with worlds of the same pace; median seed."""
    ratios, details = [], {}
    for seed in bench.seeds:
        runs = {}
        for actors in (1, ACTORS):
            more = ("--actors", str(actors), "--rtf", str(REAL_TIME_FACTOR), *EVALUATION)
            result = train(
                bench.scratch,
                STATE,
                f"fleet-{actors}-seed-{seed}",
                seed,
                MAX_ENV_STEPS,
                DEMONSTRATIONS,
                more=more,
                timeout=TIMEOUT,
            )
            if not result["success"]:
                raise CommandError(f"{actors} arms with seed {seed} did not reach the goal: there is no time to it")
            runs[actors] = {**result, "load": os.getloadavg()[0]}
            bench.say(
                f"  seed {seed}, {actors} arms: {result['env_steps_to_goal']} env steps, "
                f"{result['training_seconds']:.0f} s, at load {os.getloadavg()[0]:.0f}"
            )
        ratios.append(runs[ACTORS]["training_seconds"] / runs[1]["training_seconds"])
        details[str(seed)] = {str(actors): run for actors, run in runs.items()}
    seconds = "; ".join(
        f"{run['1']['training_seconds']:.0f} s and {run[str(ACTORS)]['training_seconds']:.0f} s, "
        f"{run['1']['env_steps']} and {run[str(ACTORS)]['env_steps']} steps"
        for run in details.values()
    )
    return Measurement(statistics.median(ratios), f"1 arm and {ACTORS}: {seconds}", {"seeds": details})
