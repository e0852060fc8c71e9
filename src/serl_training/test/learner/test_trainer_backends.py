# SPDX-License-Identifier: Apache-2.0
"""A run that one backend has begun goes on in the other."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from serl_rl.backends import make_policy
from serl_rl.checkpoint import latest, load_policy
from serl_rl.config import LearningConfig, SACConfig, TorchConfig
from serl_rl.storage.chunk import encode_chunk
from serl_training.learner.schedule import Pace
from serl_training.learner.trainer import CHECKPOINTS, Trainer
from serl_training.learner.training_errors import TrainingError
from trainer_episodes import SPEC, own

pytest.importorskip("torch", reason="./serl setup torch").set_num_threads(1)


@contextmanager
def trainer(run_dir: Path, backend: Any) -> Iterator[Trainer]:
    config = LearningConfig(
        backend=backend, sac=SACConfig(hidden_sizes=(8,)), batch_size=4, utd_ratio=1, random_steps=0, training_starts=1
    )
    learner = Trainer(
        run_dir, SPEC, config, seed=0, pace=Pace(n_steps=4), publish=lambda _: None, report=lambda *_: None
    )
    learner.start()
    try:
        yield learner
    finally:
        learner.close()


def learn(learner: Trainer, number: int) -> int:
    """Store an episode, wait until all of them are trained for; returns the updates."""
    learner.ingest.insert("actor", f"episode {number}", 0, 10, memoryview(encode_chunk(own(number))))
    goal, deadline = learner.totals.env_steps // 4 * 4, time.monotonic() + 60.0
    while learner._schedule.trained < goal:
        if learner.failure is not None:
            raise learner.failure
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return learner._schedule.updates


def test_a_run_changes_its_backend_twice(tmp_path):
    done = 0
    for number, backend in enumerate(("torch", "jax", "torch")):
        with trainer(tmp_path, backend) as learner:
            assert learner._schedule.updates == done, "what the other one has trained counts"
            assert learner.totals.env_steps == 10 * number
            done = learn(learner, number)
    assert done >= 28
    newest = latest(tmp_path / CHECKPOINTS)
    assert newest is not None
    policy = make_policy(load_policy(newest))
    assert policy.act({"state": np.zeros(3, np.float32)}, deterministic=True).shape == (2,)


def test_settings_that_the_machine_cannot_keep_end_training_in_a_line(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    config = LearningConfig(backend="torch", torch=TorchConfig(cuda_graphs=True))
    with pytest.raises(TrainingError, match=r"^torch\.cuda_graphs: expected a GPU, found no GPU .*$"):
        Trainer(tmp_path, SPEC, config, seed=0, pace=Pace(), publish=lambda _: None, report=lambda *_: None)
