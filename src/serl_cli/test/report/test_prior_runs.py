# SPDX-License-Identifier: Apache-2.0
"""Prior data are named as people name runs, looked at before a graph starts, and shown at the end."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from serl_cli.prior_runs import check_prior, named_priors
from serl_cli.report import summary
from serl_cli.training_plan import TrainingPlan, resolve_learning
from serl_config.schema import build
from serl_launch.errors import UsageError
from serl_rl.config import LearningConfig
from serl_rl.replay.buffer import ReplayBuffer
from serl_rl.replay.prior import FILE, mount_priors, read_priors
from serl_rl.spec import TransitionSpec
from serl_rl.storage.chunk import Chunk, encode_chunk
from serl_rl.storage.journal import Journal, Record
from serl_training.link.contract import transition_spec

from serl_launch import runs
from serl_tasks import get_task

PLAN = TrainingPlan(
    task="pick_cube",
    seed=0,
    demos=1,
    demo_file="",
    max_steps=100,
    eval_every=50,
    eval_episodes=1,
    goal=0.9,
    interventions=False,
    rtf=0.0,
    learning="rlpd_state",
    settings=(),
    viewer=False,
)


def _write(run: Path, spec: TransitionSpec, length: int = 5) -> None:
    rng = np.random.default_rng(0)
    chunk = Chunk(
        observation={
            name: rng.standard_normal((length + 1, *entry.shape), dtype=np.float32)
            for name, entry in spec.observation.items()
        },
        action=np.zeros((length, spec.action_dim), np.float32),
        reward=np.zeros(length, np.float32),
        mask=np.ones(length, np.float32),
        truncated=np.arange(length) == length - 1,
        intervention=np.zeros(length, np.bool_),
        policy_version=np.zeros(length, np.uint64),
        actor_id="actor",
        episode=0,
        first_step=0,
        demonstration=False,
        last=True,
        success=False,
    )
    (run / "config.yaml").touch()
    with Journal(run / "journal", spec, sync_interval=None) as journal:
        journal.append(Record("actor", "session", 0, length, encode_chunk(chunk)))


def test_what_is_named_is_checked_and_what_was_mounted_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERL_RUNS", str(tmp_path / "runs"))
    learning = resolve_learning(PLAN.learning, PLAN.settings)
    config = build(LearningConfig, learning, "test")
    spec = transition_spec(get_task("pick_cube"), config, None)
    earlier, run = runs.create_run(tmp_path / "runs", "monday"), runs.create_run(tmp_path / "runs", "tuesday")
    _write(earlier.path, spec)
    named = named_priors(["monday:0.5"])
    assert named == (f"{earlier.path.resolve()}:0.5",)
    check_prior(replace(PLAN, prior=named), learning, run.path)

    assert "prior data" not in _shown(run)
    mount_priors(read_priors(named, run.path), spec, run.path, lambda count, _name, _fill: ReplayBuffer(spec, count))
    line = f"prior data {earlier.path.resolve()}: 5 transitions, weight 0.5"
    assert line in " ".join(_shown(run).split())
    (run.path / FILE).write_text("[]")
    assert "prior.json: expected what a learner has noted" in " ".join(_shown(run).split())

    other = runs.create_run(tmp_path / "runs", "other")
    _write(other.path, TransitionSpec({"state": ((3,), "float32")}, 2))
    with pytest.raises(UsageError, match=r"other: was made for another task or with other settings: expected state"):
        check_prior(replace(PLAN, prior=named_priors(["other"])), learning, tmp_path / "runs" / "new")
    with pytest.raises(UsageError, match="two that take turns"):
        check_prior(replace(PLAN, prior=named, partner="place_cube"), learning, run.path)


def _shown(run: runs.Run) -> str:
    text = io.StringIO()
    summary.show(run, Console(file=text, width=500))
    return text.getvalue()
