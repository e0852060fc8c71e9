# SPDX-License-Identifier: Apache-2.0
"""Two processes that train on halves of a minibatch learn what one learns on the whole."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="./serl setup torch")

PROGRAM = """
import os
import sys

import numpy as np
import torch
from serl_rl.backends import create_agent
from serl_rl.config import DrQv2Config, EncoderConfig, LearningConfig, SACConfig, TorchConfig, VisionConfig
from serl_rl.encoders.encoder import Encoder
from serl_rl.replay.buffer import Sampling, empty_batch, map_batch
from serl_rl.spec import TransitionSpec

name, file, rank, count, out = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]
torch.set_num_threads(1)
if count > 1:
    torch.distributed.init_process_group("gloo", init_method="file://" + file, rank=rank, world_size=count)
seen = {"state": ((3,), "float32")}
if name == "sac":
    seen["front"] = ((16, 24, 3), "uint8")
spec = TransitionSpec(seen, 2)
config = LearningConfig(
    backend="torch", agent=name, devices=count, torch=TorchConfig(device="cpu"),
    sac=SACConfig(hidden_sizes=(8,), critics=3, critic_subset=2, backup_entropy=True),
    drqv2=DrQv2Config(hidden_sizes=(8,)),
    vision=VisionConfig(encoder=EncoderConfig(weights="random", frozen=False, shift=2), embeddings=2, width=5),
)
agent = create_agent(0, spec, config, Encoder.random("small", 0) if name == "sac" else None)
for number in range(5):
    if number == 2 and out == "dies":
        os._exit(9)
    rng = np.random.default_rng(number)
    batch = empty_batch(spec, (1, 2, 16), Sampling(n_step=3) if name == "drqv2" else Sampling())
    for entry in batch.values():
        for rows in entry.values() if isinstance(entry, dict) else [entry]:
            low, high = (0, 256) if rows.dtype == np.uint8 else (-1.0, 1.0)
            rows[...] = rng.uniform(low, high, rows.shape)
    own = slice(rank * 16 // count, (rank + 1) * 16 // count)
    agent, _ = agent.update(map_batch(lambda rows: rows[:, :, own], batch))
np.savez(out, **{key.replace("/", "."): array for key, array in agent.arrays().items()})
"""


def start(agent: str, meeting: Path, rank: int, count: int, out: Path | str) -> subprocess.Popen[str]:
    arguments = [agent, str(meeting), str(rank), str(count), str(out)]
    return subprocess.Popen([sys.executable, "-c", PROGRAM, *arguments], stderr=subprocess.PIPE, text=True)


def test_what_is_left_says_that_another_process_is_gone(tmp_path: Path):
    left, dead = (start("sac", tmp_path / "meeting", rank, 2, out) for rank, out in enumerate(("left", "dies")))
    _, error = left.communicate(timeout=100)
    assert dead.wait(100) == 9
    assert left.returncode == 1
    assert "ParallelError: torch.distributed: process 0 of 2" in error


@pytest.mark.parametrize("agent", ["sac", "drqv2"])
def test_two_processes_learn_what_one_learns(agent, tmp_path: Path):
    running = [
        start(agent, tmp_path / "meeting", rank, count, tmp_path / out)
        for rank, count, out in ((0, 1, "whole.npz"), (0, 2, "first.npz"), (1, 2, "second.npz"))
    ]
    errors = [process.communicate(timeout=100)[1] for process in running]
    assert [process.returncode for process in running] == [0, 0, 0], errors
    whole, first, second = (dict(np.load(tmp_path / f"{out}.npz")) for out in ("whole", "first", "second"))
    seeing = agent == "sac"
    for name, array in whole.items():
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)
        # Adam makes steps of one size of whatever slopes, so of what pictures hardly move, too.
        np.testing.assert_allclose(first[name], array, rtol=1e-4, atol=1e-4 if seeing else 2e-6, err_msg=name)
