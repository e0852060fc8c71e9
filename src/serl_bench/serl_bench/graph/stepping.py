# SPDX-License-Identifier: Apache-2.0
"""Benchmarks of the simulated graph in lockstep: how fast it steps, and what it leaves to the learner."""

import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from serl_launch.errors import CommandError
from serl_launch.graph_session import GraphSession
from serl_launch.language.packages import find_executable
from serl_rl.ingest import Ingest
from serl_rl.replay.buffer import ReplayBuffer
from serl_rl.spec import TransitionSpec
from serl_rl.storage.chunk import encode_chunk
from serl_rl.storage.journal import Journal
from serl_training.env.graph_env import GraphEnv

from serl_bench.benchmark import Bench, Measurement
from serl_bench.graph.peers_node import numbered_chunk
from serl_bench.peer_processes import start, stop
from serl_tasks import get_task

TASK = "pick_cube"
WINDOWS = 5
WINDOW_SECONDS = 3.0
SETTLE_SECONDS = 2.0
START_TIMEOUT = 30.0


def graph_steps_per_s(bench: Bench) -> Measurement:
    """Env steps per second of the graph with random actions, resets included; the learner is idle."""
    with _graph(bench) as session, _learner(bench, "idle", coupled=True):
        env = GraphEnv(TASK, node=session.client.node, executor=session.client.executor)
        rates = step_rates(env, np.random.default_rng(0))
    spread = f"{min(rates):.0f} to {max(rates):.0f} in {len(rates)} windows of {WINDOW_SECONDS:.0f} s"
    return Measurement(statistics.median(rates), spread, {"windows": rates})


def learner_share(bench: Bench) -> Measurement:
    """Updates per second of a learner that trains without end: while the graph steps as fast as it can, over alone."""
    with _graph(bench) as session, _learner(bench, "busy", coupled=False):
        client = session.client
        updates: list[tuple[float, float]] = []
        client.on_metrics(
            lambda _node, _steps, values: (
                updates.append((time.monotonic(), values["learner/updates"])) if "learner/updates" in values else None
            )
        )
        if not client.spin_until(lambda: len(updates) >= 4, START_TIMEOUT):
            raise CommandError("the learner did not train")
        alone = _update_rate(updates, lambda: client.spin_until(lambda: False, WINDOWS * WINDOW_SECONDS))
        env = GraphEnv(TASK, node=client.node, executor=client.executor)
        rates: list[float] = []
        beside = _update_rate(updates, lambda: rates.extend(step_rates(env, np.random.default_rng(0))))
    steps = statistics.median(rates)
    details = {"alone": alone, "beside": beside, "graph_steps_per_s": steps}
    return Measurement(beside / alone, f"{beside:,.0f} of {alone:,.0f} updates/s at {steps:.0f} env steps/s", details)


def step_rates(env: GraphEnv, rng: np.random.Generator) -> list[float]:
    """Env steps per second in each window, after a while that does not count."""
    rates = []
    env.reset(seed=0)
    for window in range(WINDOWS + 1):
        started, steps = time.monotonic(), 0
        length = WINDOW_SECONDS if window else SETTLE_SECONDS
        while time.monotonic() - started < length:
            *_, terminated, truncated, _info = env.step(rng.uniform(-1.0, 1.0, 4).astype(np.float32))
            steps += 1
            if terminated or truncated:
                env.reset()
        if window:
            rates.append(steps / (time.monotonic() - started))
    return rates


def _update_rate(updates: list[tuple[float, float]], work: Callable[[], object]) -> float:
    """Updates per second between the first and the last report during `work()`."""
    first = len(updates)
    work()
    times, counts = zip(*updates[first:], strict=True)
    return (counts[-1] - counts[0]) / (times[-1] - times[0])


@contextmanager
def _graph(bench: Bench) -> Iterator[GraphSession]:
    """Bridge, arm controller and reward; the benchmark itself is the actor."""
    arguments = {"task": TASK, "teleop": "none", "learning_nodes": "false"}
    log_dir = bench.scratch / "graph-log"
    with GraphSession("sim.launch.xml", arguments, name="bench graph", log_dir=log_dir) as session:
        yield session


@contextmanager
def _learner(bench: Bench, name: str, *, coupled: bool) -> Iterator[None]:
    """A learner of its own; one that is not coupled gets something to train on."""
    run_dir = bench.scratch / f"learner-{name}"
    if not coupled:
        _fill(run_dir)
    parameters = {"run_dir": str(run_dir), "task": TASK, "coupled": str(coupled).lower()}
    arguments = [part for key, value in parameters.items() for part in ("-p", f"{key}:={value}")]
    process = start([str(find_executable("serl_training", "learner", os.environ)), "--ros-args", *arguments])
    try:
        yield
    finally:
        stop(process)


def _fill(run_dir: Path) -> None:
    """A journal with a thousand transitions of noise."""
    task = get_task(TASK)
    spec = TransitionSpec.from_spaces(task.observation_space, task.action_space)
    rng = np.random.default_rng(0)
    with Journal(run_dir / "journal", spec) as journal:
        ingest = Ingest(spec, journal, ReplayBuffer(spec, 2000), ReplayBuffer(spec, 2000))
        for number in range(10):
            chunk = numbered_chunk(spec, 100 * number, 100, rng)
            ingest.insert("bench", "bench", 100 * number, 100, encode_chunk(chunk))
