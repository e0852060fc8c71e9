# SPDX-License-Identifier: Apache-2.0
"""How much better a DrQ-v2 policy of another stack gets in the graph from its weights. Needs `./serl setup torch`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from serl_launch.errors import CommandError

from serl_bench.benchmark import Bench, Measurement
from serl_bench.drqv2_policy import DrQv2Training
from serl_bench.graph.training_runs import train

TASK = "pick_cube"
DEMONSTRATIONS = 20
FEW = 6
"""Demonstrations with which the policy is trained that is imported."""
LOW, HIGH = 0.3, 0.7
"""Share of episodes in which that policy succeeds."""
LOOKS, EPISODES = 20, 50
"""Episodes of a look at the training, and of the one that counts."""
UPDATES_BETWEEN = 100
MAX_UPDATES = 3000
MAX_ENV_STEPS = 3000
FIRST_SEED = 2_000_000
"""The first seed of starts in which the policy that is imported is judged; it is trained on none of them."""


def drqv2_import_gain(bench: Bench) -> Measurement:
    """Success [%] after at most 3,000 env steps in the graph, from a policy at 30 to 70 %; worst seed.

    That is the last evaluation's; from scratch, with the same demonstrations and settings, it is in the spread.
    """
    results: dict[int, dict[str, Any]] = {}
    for seed in bench.seeds:
        snapshot = bench.scratch / f"snapshots-{seed}" / "1_snapshot.pt"
        before = _made(bench, snapshot, seed)
        more = ("--learning", "drqv2")
        runs: dict[str, Mapping[str, Any]] = {
            name: train(
                bench.scratch, TASK, f"{name}-{seed}", seed, MAX_ENV_STEPS, DEMONSTRATIONS, more=(*more, *options)
            )
            for name, options in (("imported", ("--init-from", f"drqv2:{snapshot}")), ("scratch", ()))
        }
        results[seed] = {"before": before} | runs
        said = ", ".join(f"{name} {_words(run)}" for name, run in runs.items())
        bench.say(f"  seed {seed}: before {before:.0%}; {said}")
    rates = [100.0 * result["imported"]["success_rate"] for result in results.values()]
    spread = "; ".join(
        f"{each['before']:.0%}, then {_words(each['imported'])}, from scratch {_words(each['scratch'])}"
        for each in results.values()
    )
    return Measurement(min(rates), spread, {"seeds": results})


def _words(result: Mapping[str, Any]) -> str:
    return f"{result['success_rate']:.0%} after {result['env_steps']}"


def _made(bench: Bench, path: Path, seed: int) -> float:
    """Train a policy until it succeeds sometimes, and save it; the share of episodes in which it does."""
    training = DrQv2Training(TASK, seed)
    try:
        training.demonstrate(FEW)
        while training.updates < MAX_UPDATES:
            training.pretrain(UPDATES_BETWEEN)
            if not LOW <= training.success(LOOKS, FIRST_SEED) <= HIGH:
                continue
            rate = training.success(EPISODES, FIRST_SEED + LOOKS)
            if LOW <= rate <= HIGH:
                path.parent.mkdir()
                training.save(path)
                bench.say(f"  seed {seed}: a policy at {rate:.0%}, after {training.updates} updates")
                return rate
    finally:
        training.close()
    raise CommandError(f"seed {seed}: no policy between {LOW:.0%} and {HIGH:.0%} in {MAX_UPDATES} updates")
