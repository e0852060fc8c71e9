# SPDX-License-Identifier: Apache-2.0
"""ACT in JAX beside LeRobot's: how far actions differ, how long a forward takes. Needs `./serl setup lerobot`."""

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from serl_lerobot.act import LeRobotAct, LeRobotActTraining
from serl_lerobot.compat import load
from serl_rl.backends import make_act_policy
from serl_rl.benchmarks.act import architectures, drawn_checkpoint, drawn_observation, trained_architecture
from serl_rl.foreign.act.config import ActConfig
from serl_rl.foreign.act.demonstrations import Moments
from serl_rl.foreign.act.directory import ActCheckpoint, read_act
from serl_rl.foreign.act.writing import write_act

from serl_bench.benchmark import Bench, Measurement

OBSERVATIONS = 100
ROUNDS = 40
UPDATES = 6
BATCH = 16
THREADS = (1, 2)


def act_import_max_error(bench: Bench) -> Measurement:
    """Largest difference of actions to LeRobot's over random observations, from a directory that both load."""
    errors = {}
    for name, config in architectures().items():
        bench.say(f"  {name}")
        path = _written(bench, name, config)
        ours, theirs = make_act_policy(read_act(path)), LeRobotAct(path)
        rng = np.random.default_rng(1)
        worst = 0.0
        for index in range(OBSERVATIONS):
            if index % 7 == 0:
                ours.reset()
                theirs.reset()
            seen = drawn_observation(ours.inputs, rng)
            worst = max(worst, float(np.abs(ours.act(seen) - theirs.act(seen)).max()))
        errors[name] = worst
    spread = ", ".join(f"{name} {error:.1e}" for name, error in errors.items())
    return Measurement(max(errors.values()), f"{OBSERVATIONS} observations each: {spread}", errors)


def act_ms(bench: Bench) -> Measurement:
    """Duration of a forward, two cameras, divided by LeRobot's with the better number of threads."""
    from serl_rl.jax.act.predicting import ActNetwork

    path = _written(bench, "timed", architectures()["default"])
    checkpoint: ActCheckpoint = read_act(path)
    ours, theirs = ActNetwork(checkpoint), LeRobotAct(path)
    seen = drawn_observation(make_act_policy(checkpoint).inputs, np.random.default_rng(1))
    bench.say("  compiling")
    batch = theirs.batch(seen)

    def run_theirs() -> Any:
        return theirs.policy.predict_action_chunk(batch)

    def run_ours() -> Any:
        return ours(seen)

    torch = load("torch")
    times: dict[str, list[float]] = {"jax": [], **{f"lerobot, {threads} threads": [] for threads in THREADS}}
    run_ours()
    for _ in range(ROUNDS):
        times["jax"].append(_milliseconds(run_ours))
        for threads in THREADS:
            torch.set_num_threads(threads)
            times[f"lerobot, {threads} threads"].append(_milliseconds(run_theirs))
    # The best of many: what else runs on the machine only adds, and to PyTorch's threads, which wait spinning, most.
    best = {name: min(each) for name, each in times.items()}
    spread = f"best of {ROUNDS}: " + "; ".join(
        f"{name} {best[name]:.1f} ms (median {statistics.median(each):.1f})" for name, each in times.items()
    )
    ours_ms = best.pop("jax")
    return Measurement(ours_ms / min(best.values()), spread, times)


def act_train_ratio(bench: Bench) -> Measurement:
    """Duration of an update on a batch of small pictures, divided by LeRobot's with the better number of threads."""
    from serl_rl.jax.act.training import ActTraining

    config = trained_architecture()
    path = _written(bench, "trained", config)
    torch = load("torch")
    rng = np.random.default_rng(1)

    def draw(*shape: int) -> Any:
        return rng.standard_normal((BATCH, *shape)).astype(np.float32)

    pictures = {name: draw(*config.input_features[name].shape) for name in config.cameras}
    state, actions = draw(config.state_size), draw(config.chunk_size, config.action_size)
    padding = np.zeros((BATCH, config.chunk_size), bool)
    theirs = LeRobotActTraining(path)
    given = {**pictures, "observation.state": state, "action": actions, "action_is_pad": padding}
    batch = {name: torch.from_numpy(values) for name, values in given.items()}
    training = ActTraining(config, read_act(path).parameters, 0)
    moments = Moments([rows.transpose(0, 2, 3, 1) for rows in pictures.values()], state, actions, padding)

    def run_ours() -> Any:
        return training.learn(moments)

    times: dict[str, list[float]] = {"jax": [], **{f"lerobot, {threads} threads": [] for threads in THREADS}}
    bench.say("  compiling")
    run_ours()
    for _ in range(UPDATES):
        times["jax"].append(_milliseconds(run_ours))
        for threads in THREADS:
            torch.set_num_threads(threads)
            times[f"lerobot, {threads} threads"].append(_milliseconds(lambda: theirs.update(batch)))
    best = {name: min(each) for name, each in times.items()}
    spread = f"best of {UPDATES}: " + "; ".join(f"{name} {value:.0f} ms" for name, value in best.items())
    ours_ms = best.pop("jax")
    return Measurement(ours_ms / min(best.values()), spread, times)


def _milliseconds(function: Callable[[], Any]) -> float:
    start = time.perf_counter()
    function()
    return 1e3 * (time.perf_counter() - start)


def _written(bench: Bench, name: str, config: ActConfig) -> Path:
    path = bench.scratch / f"act_{name}"
    write_act(path, drawn_checkpoint(config))
    return path
