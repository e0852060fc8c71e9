# SPDX-License-Identifier: Apache-2.0
"""An ACT policy of few demonstrations, what online learning in the graph makes of it, and that as an ACT policy again.

The same commands that a person types. Needs `./serl setup lerobot`: the last policy is judged by LeRobot's own class.
"""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from serl_config.schema import load_yaml
from serl_launch.errors import CommandError
from serl_lerobot.act import LeRobotAct
from serl_rl.foreign.act.directory import read_act
from serl_rl.imported.mapped import MappedPolicy
from serl_rl.imported.mapping import PolicyMapping
from serl_rl.imported.opening import MAPPING
from serl_sim.envs import TaskEnv
from serl_training.link.contract import load_learning, transition_spec, without_history

from serl_bench.benchmark import Bench, Measurement
from serl_bench.graph.training_runs import EVALUATION_EPISODES, VISION, run, train
from serl_tasks import get_task

DEMONSTRATIONS = 30
MAX_ENV_STEPS = 3000
TIMEOUT = 3600.0  # [s] of each command
FIRST_SEED = 5_000_000
"""Seed of the first start in which LeRobot's class acts."""


def act_rl_gain(bench: Bench) -> Measurement:
    """Success after online improvement of an ACT policy [%], worst seed."""
    rows: dict[int, Mapping[str, float]] = {}
    for seed in bench.seeds:
        rows[seed] = _one(bench, seed)
        bench.say(f"  seed {seed}: " + ", ".join(f"{name} {value:.0f} %" for name, value in rows[seed].items()))
    spread = "; ".join(
        f"{name} {' / '.join(f'{row[name]:.0f}' for row in rows.values())}" for name in next(iter(rows.values()))
    )
    return Measurement(min(row["improved"] for row in rows.values()), f"% for each seed: {spread}", {"seeds": rows})


def _one(bench: Bench, seed: int) -> dict[str, float]:
    root = bench.scratch
    shown, improved, distilled = f"shown-{seed}", f"improved-{seed}", root / f"distilled-{seed}"
    bench.say(f"  seed {seed}: ACT of {DEMONSTRATIONS} demonstrations")
    serl(
        root,
        shown,
        *("train", VISION, "--learning", "act", "--name", shown, "--seed", str(seed), "--no-report"),
        *("--demos", str(DEMONSTRATIONS), "--eval-episodes", str(EVALUATION_EPISODES)),
    )
    before = float(json.loads((root / shown / "result.json").read_text(encoding="utf-8"))["success_rate"])
    bench.say(f"  seed {seed}: {before:.0%}; online learning")
    policy = root / shown / "act"
    more = ("--from-policy", f"act:{policy}", "--demo-file", str(root / shown / "demonstrations.serl"))
    after = train(root, VISION, improved, seed, MAX_ENV_STEPS, DEMONSTRATIONS, more=more, timeout=TIMEOUT)
    bench.say(f"  seed {seed}: {after['success_rate']:.0%} after {after['env_steps']} env steps; distilling")
    serl(root, f"distill-{seed}", "policy", "distill", improved, "--to", f"act:{distilled}", "--seed", str(seed))
    return {
        "before": 100 * before,
        "improved": 100 * float(after["success_rate"]),
        "distilled, by LeRobot's class": 100 * judged_by_lerobot(distilled, VISION, EVALUATION_EPISODES),
    }


def judged_by_lerobot(path: Path, task: str, episodes: int, mapping: PolicyMapping | None = None) -> float:
    """Share of episodes, in [0, 1], in which LeRobot's own class succeeds with a directory.

    Args:
        path: of the directory.
        task: in which it acts.
        episodes: to run.
        mapping: what stands between the two; None: the mapping file in the directory.
    """
    found = get_task(task)
    spec = transition_spec(found, without_history(load_learning("", found)), None)
    policy = MappedPolicy(_Theirs(path), spec, mapping or load_yaml(path / MAPPING, PolicyMapping))
    env, successes = TaskEnv(found), 0
    try:
        for seed in range(FIRST_SEED, FIRST_SEED + episodes):
            observation, info = env.reset(seed=seed)
            policy.reset()
            over = False
            while not over:
                action = policy.act(observation, deterministic=True)
                observation, _, terminated, truncated, info = env.step(action)
                over = terminated or truncated
            successes += bool(info["success"])
    finally:
        env.close()
    return successes / episodes


class _Theirs:
    """LeRobot's class as a policy that the mapping stands before."""

    planned = 0

    def __init__(self, path: Path) -> None:
        config = read_act(path).config
        self._policy = LeRobotAct(path)
        shapes = {name: feature.shape for name, feature in config.input_features.items()}
        self.inputs: Mapping[str, tuple[int, ...]] = {
            name: (*shape[1:], 3) if len(shape) == 3 else shape for name, shape in shapes.items()
        }
        self.outputs = config.action_size

    def reset(self) -> None:
        self._policy.reset()

    def act(self, inputs: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        return self._policy.act(inputs)


def serl(root: Path, name: str, *arguments: str) -> None:
    """Run a command, which may miss its goal. Raises CommandError where it fails."""
    output = root / f"{name}.txt"
    with output.open("wb") as file:
        status = run(
            [sys.executable, "-m", "serl_cli", *arguments],
            {**os.environ, "SERL_RUNS": str(root)},
            file,
            timeout=TIMEOUT,
        )
    if status and not (root / name / "result.json").is_file():
        lines = output.read_text(encoding="utf-8", errors="replace").splitlines()
        raise CommandError(f"{' '.join(arguments[:2])} failed with status {status}", details=lines[-15:])
