# SPDX-License-Identifier: Apache-2.0
"""Benchmarks that train: the same command that a person types, in a process of its own, once for each seed."""

import functools
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from serl_launch.errors import CommandError
from serl_launch.processes.guardian import Guardian

from serl_bench.benchmark import Bench, Measurement

STATE, VISION = "pick_cube", "pick_cube_vision"
GOAL = 0.95
DEMONSTRATIONS = 20
SERVO_ARM_MAX_ENV_STEPS, SERVO_ARM_TIMEOUT = 5000, 3600.0  # [s] of one run in real time
SERVO_ARM_EVALUATION = ("--eval-every", "500", "--eval-episodes", "20")  # they take as long as the learning
TWO_ARMS = "lift_bar"
GYM_HIL, GYM_HIL_DEMONSTRATIONS = "gym-hil-pick-cube", 30
EVALUATION_EPISODES = 50
MAX_ENV_STEPS = 10_000
TIMEOUT = 900.0  # [s] for one run
STOP_TIMEOUT = 30.0  # [s] to end after SIGINT
_TICK = 0.2  # [s]
WARM_UP_STEPS = 600  # enough for every function to be compiled once


def pick_state_steps(bench: Bench) -> Measurement:
    """Online env steps to the goal from the true state, worst seed."""
    return _steps(bench, STATE)


def pick_state_wall_s(bench: Bench) -> Measurement:
    """Wall time from the start of the graph to the goal from the true state, median seed."""
    return _wall_seconds(bench, STATE)


def pick_pixels_steps(bench: Bench) -> Measurement:
    """Online env steps to the goal from two cameras, worst seed."""
    return _steps(bench, VISION)


def pick_pixels_wall_s(bench: Bench) -> Measurement:
    """Wall time from the start of the graph to the goal from two cameras, median seed."""
    return _wall_seconds(bench, VISION)


def gym_hil_steps(bench: Bench) -> Measurement:
    """Online env steps to the goal on gym-hil's cube that lies anywhere, worst seed."""
    return _steps(bench, GYM_HIL, GYM_HIL_DEMONSTRATIONS)


def pick_so101_steps(bench: Bench) -> Measurement:
    """Online env steps to the goal through the driver of a real arm, in real time, worst seed; no seed is warmed up."""
    results = [
        train(
            bench.scratch,
            STATE,
            f"emulated-seed-{seed}",
            seed,
            SERVO_ARM_MAX_ENV_STEPS,
            DEMONSTRATIONS,
            more=("--robot", "so101", "--hardware", "emulated", *SERVO_ARM_EVALUATION),
            timeout=SERVO_ARM_TIMEOUT,
        )
        for seed in bench.seeds
    ]
    steps = [result["env_steps_to_goal"] or SERVO_ARM_MAX_ENV_STEPS for result in results]
    return Measurement(max(steps), _spread(steps, "{:.0f}"), {"seeds": dict(zip(bench.seeds, results, strict=True))})


def dual_lift_success(bench: Bench) -> Measurement:
    """Success of one policy for two arms that lift a bar [%], in the evaluation that confirms the goal or is the last.

    Worst seed; no seed is warmed up.
    """
    results = []
    for seed in bench.seeds:
        name = f"{TWO_ARMS}-seed-{seed}"
        result = train(bench.scratch, TWO_ARMS, name, seed, MAX_ENV_STEPS, DEMONSTRATIONS, more=("--confirm", "1"))
        bench.say(f"  seed {seed}: {result['success_rate']:.0%} after {result['env_steps']} env steps")
        results.append(result)
    steps = [result["env_steps"] for result in results]
    rates = [100.0 * result["success_rate"] for result in results]
    spread = f"{_spread(rates, '{:.0f}')} after {_spread(steps, '{:.0f}')} env steps"
    return Measurement(min(rates), spread, {"seeds": dict(zip(bench.seeds, results, strict=True))})


def _steps(bench: Bench, task: str, demonstrations: int = DEMONSTRATIONS) -> Measurement:
    """The worst seed counts. One that does not get there counts with the steps it was given."""
    results = _train_all(bench, task, demonstrations)
    steps = [result["env_steps_to_goal"] or MAX_ENV_STEPS for result in results]
    return Measurement(max(steps), _spread(steps, "{:.0f}"), {"seeds": dict(zip(bench.seeds, results, strict=True))})


def _wall_seconds(bench: Bench, task: str) -> Measurement:
    results = _train_all(bench, task)
    failed = [seed for seed, result in zip(bench.seeds, results, strict=True) if not result["success"]]
    if failed:
        raise CommandError(f"seeds {failed} did not reach the goal: there is no time to it")
    times = [result["wall_seconds"] for result in results]
    return Measurement(
        statistics.median(times), _spread(times, "{:.1f}"), {"seeds": dict(zip(bench.seeds, results, strict=True))}
    )


@functools.cache
def _train_all(bench: Bench, task: str, demonstrations: int = DEMONSTRATIONS) -> list[Mapping[str, Any]]:
    """One run for each seed, after one that fills the compile cache. Steps and wall time are of the same runs."""
    bench.say("  filling the compile cache")
    train(bench.scratch, task, f"{task}-warm-up", 0, WARM_UP_STEPS, demonstrations)
    results = []
    for seed in bench.seeds:
        result = train(bench.scratch, task, f"{task}-seed-{seed}", seed, MAX_ENV_STEPS, demonstrations)
        bench.say(
            f"  seed {seed}: {result['env_steps_to_goal']} env steps, {result['wall_seconds']:.1f} s, "
            f"success {result['success_rate']:.0%}"
        )
        results.append(result)
    return results


def train(
    root: Path,
    task: str,
    name: str,
    seed: int,
    max_env_steps: int,
    demonstrations: int,
    sets: Sequence[str] = (),
    *,
    more: Sequence[str] = (),
    timeout: float = TIMEOUT,
) -> Mapping[str, Any]:
    """What ``result.json`` of a training says that ends at the goal.

    Args:
        root: folder of the runs; what the command prints is there in a file, too.
        task: to learn.
        name: of the run.
        seed: of everything random.
        max_env_steps: after which it gives up.
        demonstrations: that the person gives first.
        sets: changes of the learning configuration, each KEY=VALUE.
        more: options of the command beyond these; they win.
        timeout: until it is ended [s].

    Raises:
        CommandError: it failed, or did not end in time.
    """
    command = [
        *(sys.executable, "-m", "serl_cli", "train", task, "--name", name, "--seed", str(seed), "--no-report"),
        *("--demos", str(demonstrations), "--goal", str(GOAL), "--eval-episodes", str(EVALUATION_EPISODES)),
        *("--max-steps", str(max_env_steps), "--confirm", "0"),
        *(part for change in sets for part in ("--set", change)),
        *more,
    ]
    output = root / f"{name}.txt"
    with output.open("wb") as file:
        status = run(command, {**os.environ, "SERL_RUNS": str(root)}, file, timeout=timeout)
    result_file = root / name / "result.json"
    if not result_file.is_file():
        lines = output.read_text(encoding="utf-8", errors="replace").splitlines()
        raise CommandError(f"training with seed {seed} failed with status {status}", details=lines[-15:])
    result: Mapping[str, Any] = json.loads(result_file.read_text(encoding="utf-8"))
    return result


def run(
    command: Sequence[str],
    environment: Mapping[str, str],
    output: IO[bytes],
    *,
    timeout: float = TIMEOUT,
    stop_timeout: float = STOP_TIMEOUT,
    tick: Callable[[], None] = lambda: None,
) -> int:
    """Exit status of a command. Whatever ends us, kill -9 included, ends it too, with everything that it started.

    Args:
        command: program and arguments.
        environment: of the command.
        output: takes what it prints.
        timeout: [s] until it is ended.
        stop_timeout: [s] that it has to end its graph after SIGINT.
        tick: called five times a second while it runs.

    Raises:
        CommandError: it did not end in time.
    """
    guardian = Guardian()
    process = subprocess.Popen(
        command, env=guardian.marked(environment), stdin=subprocess.DEVNULL, stdout=output, stderr=output,
        start_new_session=True,
    )  # fmt: skip
    try:
        guardian.watch(process.pid)
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            try:
                return process.wait(_TICK)
            except subprocess.TimeoutExpired:
                tick()
        raise CommandError(f"training did not end within {timeout:.0f} s")
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(stop_timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        guardian.close()


def _spread(values: list[float], form: str) -> str:
    low, middle, high = (form.format(f(values)) for f in (min, statistics.median, max))
    return f"{low} / {middle} / {high} (min / median / max of {len(values)} seeds)"
