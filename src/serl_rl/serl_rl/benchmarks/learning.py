# SPDX-License-Identifier: Apache-2.0
"""How fast learning is on this machine: functions that measure one number each.

The reference settings belong to a process with all of XLA's threads.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import jax
import numpy as np

from serl_rl.config import SACConfig
from serl_rl.ingest import Ingest
from serl_rl.jax.sac import SACAgent
from serl_rl.replay.buffer import Batch, ReplayBuffer, empty_batch
from serl_rl.storage.chunk import ArraySpec, Chunk, TransitionSpec, encode_chunk
from serl_rl.storage.journal import Journal

REFERENCE = SACConfig(
    hidden_sizes=(256, 256),
    activation="tanh",
    critics=10,
    critic_subset=2,
    discount=0.99,
    target_rate=0.005,
    actor_lr=3e-4,
    critic_lr=3e-4,
    temperature_lr=3e-4,
    initial_temperature=0.01,
)
"""State SAC as SERL runs it: observation 10, action 4, batch 256, UTD 8."""


def sac_reference_updates_per_s(seconds: float = 5.0) -> float:
    """Critic updates per second at the reference settings, actor and temperature updates included."""
    n_steps, utd_ratio = 1, 8
    return n_steps * utd_ratio / _update_seconds(REFERENCE, 10, 256, n_steps, utd_ratio, seconds)


def insertions_per_s(directory: Path, *, images: bool, seconds: float = 2.0) -> float:
    """Transitions encoded, decoded, journaled and inserted per second, in chunks of 64.

    Args:
        directory: for the journal; about a gigabyte with images.
        images: two 128 x 128 RGB images in each observation.
        seconds: to measure.
    """
    observation = {"state": ArraySpec((14,), "float32")}
    if images:
        observation |= dict.fromkeys(("front", "wrist"), ArraySpec((128, 128, 3), "uint8"))
    spec = TransitionSpec(observation, 4)
    buffers = (ReplayBuffer(spec, 2_000), ReplayBuffer(spec, 10))
    with Journal(directory, spec) as journal:
        ingest = Ingest(spec, journal, *buffers)
        chunk, sent, start = _episode(spec, 64), 0, time.perf_counter()
        while time.perf_counter() - start < seconds:
            ingest.insert("actor", "benchmark", sent, len(chunk), encode_chunk(chunk))
            sent += len(chunk)
        return sent / (time.perf_counter() - start)


def _episode(spec: TransitionSpec, n: int) -> Chunk:
    rng = np.random.default_rng(0)
    mask = np.ones(n, np.float32)
    mask[-1] = 0.0
    return Chunk(
        observation={
            name: rng.integers(0, 256, (n + 1, *entry.shape)).astype(entry.dtype)
            for name, entry in spec.observation.items()
        },
        action=rng.uniform(-1, 1, (n, spec.action_dim)).astype(np.float32),
        reward=np.zeros(n, np.float32),
        mask=mask,
        truncated=np.zeros(n, np.bool_),
        intervention=np.zeros(n, np.bool_),
        policy_version=np.zeros(n, np.uint64),
        actor_id="actor",
        episode=0,
        first_step=0,
        demonstration=False,
        last=True,
        success=True,
    )


def _update_seconds(
    config: SACConfig, width: int, batch_size: int, n_steps: int, utd_ratio: int, seconds: float
) -> float:
    """Median duration of one call of `SACAgent.update`."""
    spec = TransitionSpec({"state": ArraySpec((width,), "float32")}, 4)
    agent = SACAgent.create(0, spec, config)
    batch = random_batch(spec, (n_steps, utd_ratio, batch_size))

    def update() -> None:
        nonlocal agent
        agent, _ = agent.update(batch)
        jax.block_until_ready(agent)

    return median_seconds(update, seconds)


def random_batch(spec: TransitionSpec, shape: tuple[int, ...]) -> Batch:
    """A batch with leading axes `shape`, standard normal but for pictures, which are noise, and actions."""
    rng = np.random.default_rng(0)
    batch = empty_batch(spec, shape)
    for rows in (*batch["observation"].values(), *batch["next_observation"].values(), batch["reward"]):
        rows[...] = rng.integers(0, 256, rows.shape) if rows.dtype == np.uint8 else rng.standard_normal(rows.shape)
    batch["action"][...] = rng.uniform(-1, 1, batch["action"].shape)
    batch["mask"][...] = 1.0
    return batch


def median_seconds(call: Callable[[], object], seconds: float) -> float:
    """Median duration of a call [s] in about `seconds`, after two that warm up."""
    for _ in range(2):
        call()
    durations = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        call()
        durations.append(time.perf_counter() - start)
    return median(durations)
