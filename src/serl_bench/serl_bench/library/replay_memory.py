# SPDX-License-Identifier: Apache-2.0
"""Benchmarks of the replay buffer on pictures of the simulated task."""

import statistics
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from serl_rl.benchmarks.replay import filled_buffer, kb_per_transition, samples_per_s
from serl_rl.replay.buffer import ReplayBuffer
from serl_rl.spec import ArraySpec, TransitionSpec
from serl_rl.storage.chunk import stack_observations

import serl_sim
from serl_bench.benchmark import Bench, Measurement

TASK = "pick_cube_vision"
EPISODES = 20
CAPACITY = 900
JPEG_CAPACITY = 5000  # so many that few pictures are drawn twice
FEATURES = (2, 4, 4, 64)  # two views, of the small encoder
WINDOWS = 5

Episodes = list[dict[str, NDArray[Any]]]


def replay_kb_cached(_: Bench) -> Measurement:
    """Features of a frozen encoder. Their values do not matter for the memory that they take."""
    episodes, spec = _random_episodes()
    cameras = [name for name, entry in spec.observation.items() if entry.kind == "image"]
    features = dict.fromkeys(cameras, ArraySpec(FEATURES, "float16"))
    cached = TransitionSpec(dict(spec.observation) | features, spec.action_dim, encoder="benchmark")
    for observation in episodes:
        for name in cameras:
            observation[name] = np.zeros((len(observation[name]), *FEATURES), np.float16)
    return _memory(filled_buffer(cached, episodes, CAPACITY))


def replay_kb_jpeg(_: Bench) -> Measurement:
    """Pictures as JPEG."""
    return _memory(_filled("jpeg", JPEG_CAPACITY))


def replay_kb_raw(_: Bench) -> Measurement:
    """Pictures as they are."""
    return _memory(_filled("raw", CAPACITY))


def replay_jpeg_samples_per_s(_: Bench) -> Measurement:
    """Minibatches of 256 transitions, decoded."""
    buffer = _filled("jpeg", JPEG_CAPACITY)
    rates = [samples_per_s(buffer) for _ in range(WINDOWS)]
    return Measurement(statistics.median(rates), f"{min(rates):.1f} to {max(rates):.1f} in {WINDOWS} windows of 3 s")


def _memory(buffer: ReplayBuffer) -> Measurement:
    return Measurement(kb_per_transition(buffer), f"{len(buffer)} transitions in {buffer.nbytes / 2**20:.1f} MB")


def _filled(storage: Literal["raw", "jpeg"], capacity: int) -> ReplayBuffer:
    episodes, spec = _random_episodes()
    return filled_buffer(spec, episodes, capacity, storage)


def _random_episodes() -> tuple[Episodes, TransitionSpec]:
    """Observations of episodes with random actions, and their specification."""
    env = serl_sim.make(TASK)
    env.action_space.seed(0)
    episodes = []
    for seed in range(EPISODES):
        observation, _ = env.reset(seed=seed)
        rows, over = [observation], False
        while not over:
            observation, _, terminated, truncated, _ = env.step(env.action_space.sample())
            rows.append(observation)
            over = terminated or truncated
        episodes.append(stack_observations(rows))
    spec = TransitionSpec.from_spaces(env.observation_space, env.action_space)
    env.close()
    return episodes, spec
