# SPDX-License-Identifier: Apache-2.0
"""The main job with encoders that have not seen it: how many more env steps than with the best one."""

import os
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from serl_launch.errors import CommandError

from serl_bench.benchmark import Bench, Measurement
from serl_bench.graph.training_runs import DEMONSTRATIONS, MAX_ENV_STEPS, run, train

TASK = "insert_peg_vision"
STRANGER = "efficientnet_lite0"
"""Trained on photographs: it has seen neither the task nor our renderer."""
FAMILIAR = {"small": (), "small, random": ("vision.encoder.weights=random",)}
"""The shipped encoder, which knows the renderer from another task, and one that knows nothing: by settings."""
_IMPORT_SECONDS = 300.0


def encoder_transfer(bench: Bench) -> Measurement:
    """Env steps to the goal with ImageNet's encoder over those with the best one, medians over the seeds.

    A seed that does not get to the goal counts as infinitely slow.

    Raises:
        CommandError: the encoder cannot be imported: its package is not installed; or no encoder gets to the goal.
    """
    weights = _imported(bench.scratch)
    stranger = ("vision.encoder.kind=efficientnet_lite0_5", f"vision.encoder.weights={weights}")
    results = {name: _all_seeds(bench, name, sets) for name, sets in {**FAMILIAR, STRANGER: stranger}.items()}
    medians = {name: statistics.median(map(steps_to_goal, found)) for name, found in results.items()}
    walls = {name: statistics.median(each["wall_seconds"] for each in found) for name, found in results.items()}
    spread = ", ".join(f"{name}: {medians[name]:,.0f} steps, {walls[name]:.0f} s" for name in results)
    return Measurement(transfer(medians), f"{spread} (medians of {len(bench.seeds)} seeds)", {"encoders": results})


def steps_to_goal(result: Mapping[str, Any]) -> float:
    """Online env steps of a training until the goal was reached; infinite where it was not."""
    return float(result["env_steps_to_goal"] or "inf")


def transfer(steps: Mapping[str, float]) -> float:
    """Steps with `STRANGER` over the fewest of all; raises CommandError where none is finite."""
    best = min(steps.values())
    if best == float("inf"):
        raise CommandError(f"with none of the encoders {', '.join(steps)} was the goal reached: there is no best one")
    return steps[STRANGER] / best


def _all_seeds(bench: Bench, name: str, sets: Sequence[str]) -> list[Mapping[str, Any]]:
    results = []
    for seed in bench.seeds:
        run_name = f"{name.replace(', ', '-')}-seed-{seed}"
        result = train(bench.scratch, TASK, run_name, seed, MAX_ENV_STEPS, DEMONSTRATIONS, sets)
        bench.say(f"  {name}, seed {seed}: {result['env_steps_to_goal']} env steps, {result['wall_seconds']:.1f} s")
        results.append(result)
    return results


def _imported(root: Path) -> Path:
    weights, output = root / "efficientnet_lite0.safetensors", root / "import.txt"
    command = [sys.executable, "-m", "serl_cli", "encoder", "import", STRANGER, "--out", str(weights)]
    with output.open("wb") as file:
        status = run(command, os.environ, file, timeout=_IMPORT_SECONDS)
    if status:
        lines = output.read_text(encoding="utf-8", errors="replace").splitlines()
        raise CommandError(f"{STRANGER} was not imported (status {status})", details=lines[-15:])
    return weights
