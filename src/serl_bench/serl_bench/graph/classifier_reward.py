# SPDX-License-Identifier: Apache-2.0
"""Benchmarks of reward classifiers: what a policy learns from one, and how fast its node answers."""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from serl_config.resources import find
from serl_launch.errors import CommandError
from serl_launch.graph_session import GraphSession
from serl_rl.config import EncoderConfig, RewardClassifierConfig
from serl_training.env.graph_env import GraphEnv
from serl_training.reward.reward_frames import frame_source

from serl_bench.benchmark import Bench, Measurement
from serl_bench.graph.stepping import WINDOW_SECONDS, step_rates
from serl_bench.graph.training_runs import DEMONSTRATIONS, EVALUATION_EPISODES, VISION, run
from serl_tasks import get_task

MAX_ENV_STEPS = 4000
TRUE_EPISODES = 100
_FIRST_TRUE_SEED = 10_000  # of start states that no training has evaluated on


def pick_classifier_success(bench: Bench) -> Measurement:
    """True success of policies whose only reward was a classifier, worst seed; each seed trains its own classifier."""
    found = {seed: _one_seed(bench, seed) for seed in bench.seeds}
    percents = [100.0 * each["success_rate"] for each in found.values()]
    spread = f"{min(percents):.0f} to {max(percents):.0f} % of {TRUE_EPISODES} episodes, {len(percents)} seeds"
    return Measurement(min(percents), spread, {"seeds": found})


def classifier_hz(bench: Bench) -> Measurement:
    """Answers per second of the classifier's node, two cameras, to a graph that steps as fast as it gets them."""
    from serl_rl.encoders.loading import load_encoder
    from serl_rl.jax.reward.classifier import RewardClassifier

    task, config = get_task(VISION), RewardClassifierConfig()
    settings = EncoderConfig(kind=config.encoder, weights=config.weights)
    encoder = load_encoder(settings, tuple(task.cameras), find, world=task.world)
    path = bench.scratch / "untrained.safetensors"
    RewardClassifier.untrained(frame_source(task), config, encoder).save(path)
    arguments = {
        "task": VISION,
        "teleop": "none",
        "learning_nodes": "false",
        "reward": "classifier",
        "classifier": str(path),
    }
    with GraphSession("sim.launch.xml", arguments, name="bench reward", log_dir=bench.scratch / "reward-log") as graph:
        env = GraphEnv(task, node=graph.client.node, executor=graph.client.executor, reset_timeout=60.0)
        # In lockstep a step ends when its reward is there: no step is faster than the classifier.
        rates = step_rates(env, np.random.default_rng(0))
    spread = f"{min(rates):.0f} to {max(rates):.0f} in {len(rates)} windows of {WINDOW_SECONDS:.0f} s"
    return Measurement(float(np.median(rates)), spread, {"windows": rates})


def _one_seed(bench: Bench, seed: int) -> dict[str, Any]:
    """Frames, classifier, policy, and its true success."""
    folder = bench.scratch / f"classifier-{seed}"
    folder.mkdir()
    frames, classifier = folder / "frames", folder / "classifier.safetensors"
    _serl(folder, "reward", "record", VISION, "--out", str(frames), "--seed", str(seed))
    _serl(folder, "reward", "train", str(frames), "--out", str(classifier), "--seed", str(seed))
    printed = _serl(
        folder,
        *("train", VISION, "--name", "policy", "--seed", str(seed), "--no-report"),
        *("--reward", "classifier", "--classifier", str(classifier)),
        # What the classifier believes is no measure of the goal: the policy learns until there is nothing left to gain.
        *("--demos", str(DEMONSTRATIONS), "--goal", "1.0", "--eval-episodes", str(EVALUATION_EPISODES)),
        *("--max-steps", str(MAX_ENV_STEPS)),
        allowed=(0, 1),  # 1: the classifier saw too few successes; the truth is what counts
    )
    result_file = folder / "policy" / "result.json"
    if not result_file.is_file():
        raise CommandError(f"training with seed {seed} failed", details=printed.splitlines()[-15:])
    believed = json.loads(result_file.read_text(encoding="utf-8"))
    options = ("--episodes", str(TRUE_EPISODES), "--seed", str(_FIRST_TRUE_SEED + seed), "--json")
    printed = _serl(folder, "eval", "policy", *options)
    result = json.loads(printed[printed.index("{") :])  # behind what nodes complained about, if anything
    bench.say(
        f"  seed {seed}: {believed['success_rate']:.0%} believed after {believed['env_steps']} env steps in "
        f"{believed['wall_seconds']:.1f} s, {result['success_rate']:.0%} true"
    )
    return {**result, "believed": believed["success_rate"], "env_steps": believed["env_steps"]}


def _serl(folder: Path, *arguments: str, allowed: Sequence[int] = (0,)) -> str:
    """What a command printed."""
    command = [sys.executable, "-m", "serl_cli", *arguments]
    output = folder / f"{arguments[0]}-{arguments[1]}.txt"
    with output.open("wb") as file:
        status = run(command, {**os.environ, "SERL_RUNS": str(folder)}, file)
    text = output.read_text(encoding="utf-8", errors="replace")
    if status not in allowed:
        raise CommandError(f"{' '.join(arguments[:2])} failed with status {status}", details=text.splitlines()[-15:])
    return text
