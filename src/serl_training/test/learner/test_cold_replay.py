# SPDX-License-Identifier: Apache-2.0
"""A learner whose experience is larger than its memory, and prior data with pictures and features, in both backends."""

from __future__ import annotations

import importlib.util
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from serl_rl.capacity import transition_bytes
from serl_rl.config import EncoderConfig, LearningConfig, SACConfig, VisionConfig
from serl_rl.encoders.encoder import Encoder
from serl_rl.replay import tiered
from serl_rl.replay.prior import PriorRun
from serl_rl.spec import TransitionSpec
from serl_rl.storage.chunk import Chunk, encode_chunk
from serl_rl.storage.journal import Journal, Record
from serl_training.learner.schedule import Pace
from serl_training.learner.trainer import REPLAY_CACHE, Trainer
from trainer_episodes import SPEC, own

STATE = ((3,), "float32")
PICTURES = TransitionSpec({"state": STATE, "wrist": ((16, 16, 3), "uint8")}, 2)
FEATURES = TransitionSpec({"state": STATE, "wrist": ((2, 2, 2, 4), "float16")}, 2, encoder="0123456789abcdef")
WITHOUT_TORCH = pytest.mark.skipif(not importlib.util.find_spec("torch"), reason="./serl setup torch")


def seen(episode: int, spec: TransitionSpec, length: int = 10) -> Chunk:
    """An episode of the policy's own with random pictures or features."""
    rng = np.random.default_rng(episode)
    chunk = own(episode, length)
    entry = spec.observation["wrist"]
    frames = rng.integers(0, 256, (length + 1, *entry.shape)).astype(entry.dtype)
    return replace(chunk, observation={**chunk.observation, "wrist": frames}, encoder=spec.encoder)


def config(backend: Any = "jax", **changes: Any) -> LearningConfig:
    return LearningConfig(
        backend=backend,
        sac=SACConfig(hidden_sizes=(8,)),
        batch_size=8,
        utd_ratio=1,
        random_steps=0,
        training_starts=1,
        **changes,
    )


def open_trainer(run: Path, spec: TransitionSpec, settings: LearningConfig, **options: Any) -> Trainer:
    return Trainer(
        run, spec, settings, seed=0, pace=Pace(n_steps=4), publish=lambda _: None, report=lambda *_: None, **options
    )


def learn(learner: Trainer, episodes: list[Chunk]) -> None:
    """Store episodes, and wait until all of them are trained for."""
    for chunk in episodes:
        session = f"episode {chunk.episode}"
        learner.ingest.insert("actor", session, 0, len(chunk), memoryview(encode_chunk(chunk)))
    deadline = time.monotonic() + 120.0
    while learner._schedule.trained < learner.totals.env_steps // 4 * 4:
        if learner.failure is not None:
            raise learner.failure
        assert time.monotonic() < deadline
        time.sleep(0.01)


def batches(learner: Trainer) -> list[np.ndarray]:
    batch = learner._sampler.sample(2, 3)
    sides = [batch[side][name] for side in ("observation", "next_observation") for name in sorted(batch[side])]
    return [batch["action"], batch["reward"], batch["mask"], *sides]


def test_the_same_run_learns_the_same_with_little_memory_and_goes_on(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(tiered, "_BLOCK_BYTES", 2000)
    drawn = {}
    for memory in ("all", "24kB"):
        run = tmp_path / memory
        settings = config(replay_capacity=400, replay_memory=memory)
        learner = open_trainer(run, SPEC, settings)
        learner.start()
        learn(learner, [own(number) for number in range(60)])
        assert learner._cold_sizes() == ({} if memory == "all" else {"learner/online_cold": 130.0})
        learner.close()
        learner = open_trainer(run, SPEC, settings)
        assert learner.totals.env_steps == 600
        drawn[memory] = batches(learner)
        learner.close()
    for hot, cold in zip(*drawn.values(), strict=True):
        assert np.array_equal(hot, cold)
    # With memory enough the files are not needed, and go.
    assert (run / REPLAY_CACHE).is_dir()
    open_trainer(run, SPEC, config(replay_capacity=400)).close()
    assert not (run / REPLAY_CACHE).exists()


def test_memory_that_cannot_be_enough_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"^replay_memory: expected at least \d\.?\d*MB for 50000 transitions of 0\.0 kB, .*$"
    ):
        open_trainer(tmp_path, SPEC, config(replay_capacity=50_000, replay_memory="1kB"))


@pytest.mark.parametrize(
    ("kind", "backend"),
    [("pictures", "jax"), pytest.param("features", "torch", marks=WITHOUT_TORCH)],
)
def test_runs_with_pictures_and_features_are_mounted_hot_or_cold(tmp_path: Path, monkeypatch, kind, backend) -> None:
    monkeypatch.setattr(tiered, "_BLOCK_BYTES", 1)
    spec = {"pictures": PICTURES, "features": FEATURES}[kind]
    priors = []
    for number, first in enumerate((0, 100)):
        run = tmp_path / f"earlier{number}"
        with Journal(run / "journal", spec, sync_interval=None) as journal:
            for episode in range(first, first + 24):
                record = Record("actor", f"episode {episode}", 0, 10, encode_chunk(seen(episode, spec)))
                journal.append(record)
        priors.append(PriorRun(run, 1.0 + number))
    # Memory for all of the run's own experience and a part of each mounted one.
    memory = f"{3 * (1000 * 42 + int(40 * transition_bytes(spec)))}B"
    drawn = []
    looks = EncoderConfig(frozen=kind == "features", cached=kind == "features")
    vision = VisionConfig(encoder=looks, embeddings=2, width=4)
    encoder = None if kind == "features" else Encoder.random("small", 0)
    for name, said in (("hot", "all"), ("cold", memory), ("cold", memory)):
        settings = config(backend, replay_capacity=40, replay_memory=said, vision=vision)
        learner = open_trainer(tmp_path / name, spec, settings, encoder=encoder, priors=priors)
        assert learner._prior_sizes() == {"learner/prior_size": 480.0}
        drawn.append(batches(learner))
        files = sorted((tmp_path / name / REPLAY_CACHE).glob("prior-*/*.block"))
        assert bool(files) == (name == "cold")
        for path in files[::3]:
            path.write_bytes(b"damaged")
        if said == "all" or len(drawn) == 3:
            learner.start()
            learn(learner, [seen(1000, spec)])
        learner.close()
    for hot, cold, again in zip(*drawn, strict=True):
        assert np.array_equal(hot, cold)
        assert np.array_equal(hot, again)
