# SPDX-License-Identifier: Apache-2.0
"""Two tasks that are learned by turns and then done by turns: how often, without anybody who resets the world."""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from serl_launch.errors import CommandError

from serl_bench.benchmark import Bench, Measurement
from serl_bench.graph.training_runs import DEMONSTRATIONS, EVALUATION_EPISODES, GOAL, run

FORWARD, BACKWARD = "relocate_forward", "relocate_backward"
EPISODES = 200  # of the evaluation
MAX_ENV_STEPS = 15_000  # of both tasks
EVALUATION_SEED = 1_000_000  # above those of trainings
TIMEOUT = 1_800.0  # [s] for one training or evaluation


def bin_fwbw_success(bench: Bench) -> Measurement:
    """Success of two policies that carry a cube to and fro, worst seed [%]; 0 where somebody had to reset the world."""
    results = {seed: _seed(bench, seed) for seed in bench.seeds}
    rates = [rate_without_resets(result["evaluation"]) for result in results.values()]
    spread = ", ".join(f"{rate:.1f}" for rate in rates)
    return Measurement(min(rates), f"{spread} ({len(rates)} seeds)", {"seeds": results})


def rate_without_resets(evaluation: Mapping[str, Any]) -> float:
    """Successes in hundred episodes, as ``serl eval --json`` tells them; 0 if there was a reset among them."""
    return 0.0 if evaluation["resets"] else 100.0 * evaluation["successes"] / evaluation["episodes"]


def printed_json(text: str) -> Mapping[str, Any]:
    """The object that a command with ``--json`` has printed, whatever nodes and libraries have said around it.

    Raises:
        ValueError: there is none.
    """
    found: Mapping[str, Any]
    found, _ = json.JSONDecoder().raw_decode(text, text.index("{\n"))
    return found


def _seed(bench: Bench, seed: int) -> Mapping[str, Any]:
    """Train the pair with one seed and evaluate what it has learned."""
    name = f"pair-{seed}"
    training = [
        *("train", FORWARD, "--with", BACKWARD, "--name", name, "--seed", str(seed), "--interventions", "--no-report"),
        *("--demos", str(DEMONSTRATIONS), "--goal", str(GOAL), "--eval-episodes", str(EVALUATION_EPISODES)),
        *("--max-steps", str(MAX_ENV_STEPS)),
    ]
    said = _serl(bench.scratch, training, name, accepted=(0, 1))  # 1: the goal was not reached, or it failed
    result_file = bench.scratch / name / "result.json"
    if not result_file.is_file():
        raise CommandError(f"training the pair with seed {seed} failed", details=said.splitlines()[-15:])
    result = json.loads(result_file.read_text(encoding="utf-8"))
    evaluation = ["eval", name, "--episodes", str(EPISODES), "--seed", str(EVALUATION_SEED + seed), "--json"]
    found = printed_json(_serl(bench.scratch, evaluation, f"{name}-evaluation", accepted=(0,)))
    bench.say(
        f"  seed {seed}: {result['env_steps']} env steps, {result['wall_seconds']:.1f} s; {found['successes']} of "
        f"{found['episodes']} by turns, {found['resets']} resets"
    )
    return {"training": result, "evaluation": found}


def _serl(root: Path, arguments: Sequence[str], name: str, accepted: Sequence[int]) -> str:
    """What a command of ``serl`` prints; its runs are in `root`."""
    output = root / f"{name}.txt"
    with output.open("wb") as file:
        command = (sys.executable, "-m", "serl_cli", *arguments)
        status = run(command, {**os.environ, "SERL_RUNS": str(root)}, file, timeout=TIMEOUT)
    text = output.read_text(encoding="utf-8", errors="replace")
    if status not in accepted:
        raise CommandError(f"serl {' '.join(arguments)} failed with status {status}", details=text.splitlines()[-15:])
    return text
