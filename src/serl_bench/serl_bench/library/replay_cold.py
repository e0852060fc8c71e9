# SPDX-License-Identifier: Apache-2.0
"""Minibatches from a replay buffer that is larger than its memory, against the share of what is in files."""

import gc
import os
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
from serl_rl.benchmarks.replay import filled_buffer
from serl_rl.capacity import transition_bytes
from serl_rl.replay.buffer import ReplayBuffer, empty_batch
from serl_rl.replay.tiered import index_bytes, plan_cold
from serl_rl.spec import ArraySpec, TransitionSpec

from serl_bench.benchmark import Bench, Measurement

SIZE = 256
"""Transitions of a minibatch."""
SHARES = (0.0, 0.5, 0.9, 0.96)
WARM, COLD = 100, 15  # minibatches that are timed
EPISODES, LENGTH = 20, 100
STATE = ArraySpec((20,), "float32")
FEATURES = ArraySpec((2, 4, 4, 64), "float16")
PICTURES = ArraySpec((128, 128, 3), "uint8")
KINDS = {
    "state": (TransitionSpec({"state": STATE}, 7), 300_000),
    "features": (
        TransitionSpec(
            {"front": FEATURES, "state": STATE, "wrist": FEATURES},
            7,
            encoder="benchmark",
        ),
        40_000,
    ),
    "pictures": (
        TransitionSpec({"front": PICTURES, "state": STATE, "wrist": PICTURES}, 7),
        8_000,
    ),
}


def replay_cold(bench: Bench) -> Measurement:
    """Cached features of two cameras, nine of ten transitions in files that the system has in memory."""
    details: dict[str, Any] = {}
    for kind, (spec, capacity) in KINDS.items():
        for share in SHARES:
            found = _measure(spec, capacity, share, bench.scratch / f"{kind}-{share:g}")
            details[f"{kind}, {share:.0%} in files"] = found
            numbers = ", ".join(f"{name} {value:.4g}" for name, value in found.items())
            bench.say(f"{kind}, {share:.0%} in files: {numbers}")
    hot, cold = details["features, 0% in files"], details["features, 90% in files"]
    spread = f"all in memory {hot['cached_per_s']:.0f}, from the disk {cold['disk_per_s']:.1f}"
    return Measurement(cold["cached_per_s"], spread, details)


def _measure(spec: TransitionSpec, capacity: int, share: float, folder: Path) -> dict[str, float]:
    """Minibatches a second, and what the buffer takes of memory [MB], by name."""
    gc.collect()
    before = _anonymous_memory()
    memory = int(capacity * (index_bytes(spec) + (1.0 - share) * transition_bytes(spec)))
    cold = plan_cold(spec, capacity, memory, folder, lambda _: None) if share else None
    folder.mkdir(parents=True)
    start = time.perf_counter()
    buffer = filled_buffer(spec, _episodes(spec), capacity, cold=cold)
    filled = time.perf_counter() - start
    rng, batch = np.random.default_rng(0), empty_batch(spec, (SIZE,))
    found = {
        "share": buffer.cold / len(buffer),
        "rows_per_s": buffer.inserted / filled,
        "cached_per_s": _rate(buffer, rng, batch, WARM),
        "mapped_MB": _memory_of("RssFile") / 1e6,
        "anonymous_MB": (_anonymous_memory() - before) / 1e6,
        "planned_MB": memory / 1e6,
        "files_MB": sum(path.stat().st_size for path in folder.iterdir()) / 1e6,
    }
    if share:
        times = []
        for _ in range(COLD):
            _drop(buffer, folder)
            times.append(1.0 / _rate(buffer, rng, batch, 1))
        found["disk_per_s"] = 1.0 / statistics.median(times)
    for path in folder.iterdir():
        path.unlink()
    return found


def _rate(buffer: ReplayBuffer, rng: np.random.Generator, batch: dict[str, Any], count: int) -> float:
    if count > 1:
        for _ in range(count):  # what is in files is in the page cache then
            buffer.sample_into(rng, batch)
    start = time.perf_counter()
    for _ in range(count):
        buffer.sample_into(rng, batch)
    return count / (time.perf_counter() - start)


def _drop(buffer: ReplayBuffer, folder: Path) -> None:
    """Make the system forget what it has read of the files."""
    buffer.release()
    for path in folder.iterdir():
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fdatasync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def _episodes(spec: TransitionSpec) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    return [
        {
            name: rng.integers(0, 256, (LENGTH + 1, *entry.shape)).astype(entry.dtype)
            for name, entry in spec.observation.items()
        }
        for _ in range(EPISODES)
    ]


def _anonymous_memory() -> int:
    return _memory_of("RssAnon")


def _memory_of(kind: str) -> int:
    """Resident memory of this process of a kind [bytes]."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{kind}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status: expected {kind}, found none")
