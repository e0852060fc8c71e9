# SPDX-License-Identifier: Apache-2.0
"""Benchmarks of the learning library alone, without a graph."""

import statistics
import time

import numpy as np
from serl_rl.config import SACConfig
from serl_rl.data import Chunk
from serl_rl.replay import ReplayBuffer
from serl_rl.rlpd import SymmetricSampler
from serl_rl.spec import ArraySpec, TransitionSpec

from serl_bringup.bench.registry import Bench, Measurement

WINDOWS = 5
WINDOW_SECONDS = 4.0
# The settings of the reference implementation of SERL for state observations.
OBSERVATION, ACTION, BATCH_SIZE, UTD_RATIO = 10, 4, 256, 8
REFERENCE = SACConfig(
    hidden_sizes=(256, 256),
    activation="tanh",
    layer_norm=True,
    critics=10,
    critic_subset=2,
    actor_lr=3e-4,
    critic_lr=3e-4,
    temperature_lr=3e-4,
    target_rate=0.005,
)
STORED = 5000  # transitions in each buffer


def sac_ref_updates_per_s(bench: Bench) -> Measurement:
    """Critic updates per second, with the sampling and one actor update for each ``UTD_RATIO`` of them."""
    from serl_rl.sac import SACAgent

    spec = TransitionSpec({"state": ArraySpec((OBSERVATION,), "float32")}, ACTION)
    rng = np.random.default_rng(0)
    online, demonstrations = _buffer(spec, rng), _buffer(spec, rng)
    sampler = SymmetricSampler(online, demonstrations, BATCH_SIZE, seed=0)
    agent = SACAgent.create(0, spec, REFERENCE)
    bench.say("  compiling")
    agent, info = agent.update(sampler.sample(1, UTD_RATIO))
    float(info["critic_loss"])
    rates = []
    for _ in range(WINDOWS):
        updates, started = 0, time.perf_counter()
        while time.perf_counter() - started < WINDOW_SECONDS:
            agent, info = agent.update(sampler.sample(1, UTD_RATIO))
            float(info["critic_loss"])  # waits until the update is done
            updates += UTD_RATIO
        rates.append(updates / (time.perf_counter() - started))
    spread = f"{min(rates):.0f} to {max(rates):.0f} in {WINDOWS} windows of {WINDOW_SECONDS:.0f} s"
    return Measurement(statistics.median(rates), spread, {"windows": rates})


def _buffer(spec: TransitionSpec, rng: np.random.Generator) -> ReplayBuffer:
    buffer = ReplayBuffer(spec, STORED)
    mask = np.ones(STORED, np.float32)
    mask[-1] = 0.0
    buffer.insert(
        Chunk(
            observation={"state": rng.standard_normal((STORED + 1, OBSERVATION), dtype=np.float32)},
            action=rng.uniform(-1.0, 1.0, (STORED, ACTION)).astype(np.float32),
            reward=rng.random(STORED, dtype=np.float32),
            mask=mask,
            truncated=np.zeros(STORED, np.bool_),
            intervention=np.zeros(STORED, np.bool_),
            policy_version=np.zeros(STORED, np.uint64),
            actor_id="bench",
            episode=0,
            first_step=0,
            demonstration=False,
            last=True,
            success=True,
        )
    )
    return buffer
