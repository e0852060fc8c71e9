# SPDX-License-Identifier: Apache-2.0
"""Benchmarks of what travels between actor and learner: transitions one way, policies the other; and kill -9."""

import itertools
import os
import random
import statistics
import subprocess
import sys
import time
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
from serl_launch.clients.client_node import Client
from serl_launch.errors import CommandError
from serl_launch.language.packages import find_executable
from serl_rl.policy.acting import SquashedGaussian
from serl_rl.policy.snapshot import PolicySnapshot
from serl_rl.storage.chunk import decode_chunk
from serl_rl.storage.journal import read_journal
from serl_rl.storage.tombstone import is_tombstone
from serl_ros.qos import LATCHED, RELIABLE_10
from serl_training.link.graph_learner_link import GraphLearnerLink

from serl_bench.benchmark import Bench, Measurement
from serl_bench.graph.peers_node import CHUNK, SPECS, STATE, number_code, number_reward, numbered_chunk
from serl_bench.peer_processes import start, stop
from serl_interfaces.msg import ActionCommand, PolicyParameters
from serl_launch import domain

WINDOWS = 5
WINDOW_SECONDS = 2.0
POLICY_HIDDEN = 490  # two hidden layers of this width make a policy of 1 MB
POLICY_PUSHES = 200
KILLS = 50
START_TIMEOUT = 20.0


def insert_state_per_s(bench: Bench) -> Measurement:
    """Acknowledged transitions per second, state only."""
    return _insert(bench, "state")


def insert_image_per_s(bench: Bench) -> Measurement:
    """Acknowledged transitions per second, with two raw images of 128 x 128 x 3 each."""
    return _insert(bench, "images")


def _insert(bench: Bench, kind: str) -> Measurement:
    spec, size = SPECS[kind], CHUNK[kind]
    rng = np.random.default_rng(0)
    directory = bench.scratch / f"insert-{kind}"
    directory.mkdir(exist_ok=True)
    with domain.claim(f"bench insert {kind}"), peer("store", "--dir", str(directory), "--kind", kind), Client() as us:
        learner = GraphLearnerLink(
            us.node, us.executor, spec=spec, actor_id="bench", max_lead=0, max_backlog=8 * size, check=lambda: None
        )
        chunks = itertools.cycle([numbered_chunk(spec, 0, size, rng) for _ in range(8)])
        learner.send(next(chunks))
        if not us.spin_until(lambda: learner.backlog == 0, START_TIMEOUT, tick=learner.pump):
            raise CommandError("the store did not acknowledge anything")
        rates = []
        for _ in range(WINDOWS):
            before, started = learner.acknowledged, time.monotonic()
            while time.monotonic() - started < WINDOW_SECONDS:
                learner.send(next(chunks))
                learner.throttle()
            rates.append((learner.acknowledged - before) / (time.monotonic() - started))
    return Measurement(statistics.median(rates), _spread(rates, "{:,.0f}"), {"chunk": size, "windows": rates})


def policy_push_ms(bench: Bench) -> Measurement:
    """Time from publishing a policy of 1 MB until an action chosen with it is back, in ms."""
    rng = np.random.default_rng(0)
    snapshot = _policy(rng)
    times = []
    with domain.claim("bench policy push"), peer("echo"), Client() as us:
        acted: list[int] = []
        publisher = us.node.create_publisher(PolicyParameters, "learner/policy", LATCHED)
        us.node.create_subscription(
            ActionCommand, "policy/action", lambda message: acted.append(message.step), RELIABLE_10
        )
        message = PolicyParameters(session="bench", data=array("B", snapshot))
        for version in range(1, POLICY_PUSHES + 1):
            message.version = version
            started = time.perf_counter()
            publisher.publish(message)
            done = us.spin_until(partial(_is_newest, acted, version), START_TIMEOUT)
            if not done:
                raise CommandError(f"policy version {version} never came back")
            times.append(1e3 * (time.perf_counter() - started))
            us.spin_until(lambda: False, 0.02)
    times = times[10:]
    spread = f"p90 {np.percentile(times, 90):.1f}, max {max(times):.1f} of {len(times)}"
    return Measurement(statistics.median(times), spread, {"bytes": len(snapshot)})


def _is_newest(acted: list[int], version: int) -> bool:
    return bool(acted) and acted[-1] == version


def _policy(rng: np.random.Generator) -> bytes:
    width, inputs, outputs = POLICY_HIDDEN, 14, 8
    sizes = {"trunk/dense_0": (inputs, width), "trunk/dense_1": (width, width), "head": (width, outputs)}
    arrays = {}
    for name, (rows, columns) in sizes.items():
        arrays[f"{name}/kernel"] = rng.standard_normal((rows, columns), dtype=np.float32) / np.float32(rows**0.5)
        arrays[f"{name}/bias"] = np.zeros(columns, np.float32)
    return PolicySnapshot(arrays, {"state": inputs}, "relu", SquashedGaussian((-10.0, 2.0))).to_bytes()


def lost_after_kills(bench: Bench) -> Measurement:
    """Acknowledged transitions that are not in the journal after 50 kill -9 of learner or sender at random moments."""
    choose = random.Random(0)
    run_dir, log = bench.scratch / "kills", bench.scratch / "acknowledged.txt"
    run_dir.mkdir(exist_ok=True)
    learner_command = [
        str(find_executable("serl_training", "learner", os.environ)),
        *("--ros-args", "-p", f"run_dir:={run_dir}", "-p", "task:=pick_cube"),
    ]
    commands = {"learner": learner_command, "sender": _command("sender", "--log", str(log))}
    kills = dict.fromkeys(commands, 0)
    with domain.claim("bench kills"):
        processes = {name: start(command) for name, command in commands.items()}
        try:
            for number in range(KILLS):
                _wait_for_progress(log, processes)
                time.sleep(choose.uniform(0.0, 0.5))
                victim = sorted(commands)[number % 2]
                processes[victim].kill()
                processes[victim].wait()
                kills[victim] += 1
                processes[victim] = start(commands[victim])
                if number % 10 == 9:
                    bench.say(f"  {number + 1} kills")
            _wait_for_progress(log, processes)
        finally:
            for name in ("sender", "learner"):
                stop(processes[name])
    lost, acknowledged, sessions = missing(run_dir / "journal", log)
    details = {"acknowledged": acknowledged, "sessions": sessions, "kills": kills}
    return Measurement(lost, f"of {acknowledged:,} acknowledged in {sessions} sessions", details)


def missing(journal: Path, log: Path) -> tuple[int, int, int]:
    """Compare what was acknowledged with what is stored: lost or wrong, acknowledged, sessions.

    Args:
        journal: folder of a learner's journal, of transitions as `numbered_chunk` makes them for `STATE`.
        log: file with a line of session and count for each acknowledgement.

    Raises:
        OSError: the log cannot be read.
    """
    acknowledged: dict[str, int] = {}
    for line in log.read_text(encoding="utf-8").splitlines():
        session, _, count = line.partition(" ")
        acknowledged[session] = max(acknowledged.get(session, 0), int(count))
    stored: dict[str, set[int]] = {session: set() for session in acknowledged}
    for _, record in read_journal(journal, STATE):
        numbers = np.arange(record.first_sequence, record.first_sequence + record.count)
        if is_tombstone(record.data):  # acknowledged as one thing, though it has no transitions
            stored.setdefault(record.session_id, set()).update(numbers.tolist())
            continue
        chunk = decode_chunk(record.data, STATE)
        right = (chunk.action[:, 0] == number_code(numbers)) & (chunk.reward == number_reward(numbers))
        stored.setdefault(record.session_id, set()).update(numbers[right].tolist())
    lost = sum(len(set(range(count)) - stored[session]) for session, count in acknowledged.items())
    return lost, sum(acknowledged.values()), len(acknowledged)


def _wait_for_progress(log: Path, processes: dict[str, subprocess.Popen[bytes]]) -> None:
    """Wait until another transition is acknowledged, so that kills hit work and not the start of a process."""
    size = log.stat().st_size if log.exists() else 0
    deadline = time.monotonic() + 3 * START_TIMEOUT
    while not log.exists() or log.stat().st_size <= size:
        for name, process in processes.items():
            if process.poll() is not None:
                raise CommandError(f"the {name} ended by itself with status {process.returncode}")
        if time.monotonic() > deadline:
            raise CommandError(f"nothing was acknowledged for {3 * START_TIMEOUT:.0f} s")
        time.sleep(0.02)


def _command(role: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "serl_bench.graph.peers_node", role, *arguments]


@contextmanager
def peer(role: str, *arguments: str) -> Iterator[None]:
    """A process of `peers_node` in this role, while it is needed."""
    process = start(_command(role, *arguments))
    try:
        yield
    finally:
        stop(process)


def _spread(values: Sequence[float], form: str) -> str:
    return f"{form.format(min(values))} to {form.format(max(values))} in {len(values)} windows"
