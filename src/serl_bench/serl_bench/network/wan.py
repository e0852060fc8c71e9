# SPDX-License-Identifier: Apache-2.0
"""Benchmark of an actor and a learner with a bad network between them: what is lost, and how evenly the actor acts."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from serl_launch.errors import CommandError
from serl_launch.language.packages import find_executable
from serl_link.keys import SIDES

from serl_bench.benchmark import Bench, Measurement
from serl_bench.graph.transport import missing
from serl_bench.network.wide_area import WideArea
from serl_bench.peer_processes import start, stop
from serl_launch import domain

DELAY, LOSS = 0.05, 0.02
"""Of the network: seconds one way, and share of the packets."""
_START_TIMEOUT = 60.0  # [s]
_LINK_PORT = 7447
_FLUSH_TIMEOUT = 60.0  # [s]


@dataclass(frozen=True)
class NetworkRun:
    """What became of a run."""

    lost: int
    """Acknowledged transitions that are not in the journal, or wrong there."""
    acknowledged: int
    """Transitions."""
    steps: int
    """Steps of the actor."""
    steps_per_s: float
    """Over the whole run, cuts included."""
    longest_step: float
    """Longest time between two steps [s]."""
    policies: int
    """Versions of the policy that have acted."""
    longest_backlog: int
    """Most transitions that were not acknowledged at a step."""
    bytes_per_step: dict[str, int]
    """Sent by each host in all, with discovery and the heads of packets, over the steps."""


def wan_lost(bench: Bench) -> Measurement:
    """Acknowledged transitions that a network which is slow, loses packets and is cut three times has lost."""
    folder = bench.scratch / "wan"
    folder.mkdir(exist_ok=True)
    with domain.claim("bench wan"):
        run = run_over_network(folder, cuts=3, cut_seconds=10.0, between=10.0, say=bench.say)
    sent = ", ".join(f"{host} {count:,}" for host, count in run.bytes_per_step.items())
    spread = (
        f"of {run.acknowledged:,} acknowledged; {run.steps_per_s:.2f} env steps/s, longest step "
        f"{1e3 * run.longest_step:.0f} ms, {run.policies} policies; bytes/step: {sent}"
    )
    return Measurement(run.lost, spread, vars(run))


def run_over_network(
    folder: Path,
    *,
    cuts: int,
    cut_seconds: float,
    between: float,
    learning: str = "",
    keys: Path | None = None,
    say: Callable[[str], None] = lambda _text: None,
) -> NetworkRun:
    """Run an actor of 10 Hz and a learner on two hosts, in the ROS domain of the environment.

    Args:
        folder: for the run's files; must exist and be empty.
        cuts: of the network.
        cut_seconds: of each of them.
        between: seconds before each and after the last one.
        learning: settings, as of the learner; empty: those of pick_cube.
        keys: of a run, made for the second address of the network; the hosts then talk over the link with keys alone.
            None: as ROS 2 does.
        say: tells a person what goes on.

    Raises:
        CommandError: there can be no such network here, or one of the two did not do its part in time.
    """
    learner_command = [
        str(find_executable("serl_training", "learner", os.environ)),
        *("--ros-args", "-p", f"run_dir:={folder / 'run'}", "-p", "task:=pick_cube", "-p", f"learning:={learning!r}"),
    ]
    actor_command = [sys.executable, "-m", "serl_bench.network.steady_actor_node", str(folder)]
    steps = folder / "steps"
    with WideArea(["robot", "learner"], folder) as network:
        network.worsen(delay=DELAY, loss=LOSS)
        alone = {} if keys is None else _this_host_alone()
        ends = [start(network.command(side, _link(side, network, keys), alone)) for side in SIDES if keys is not None]
        learner = start(network.command("learner", learner_command, alone))
        actor = start(network.command("robot", actor_command, alone))
        try:
            _wait(lambda: steps.exists() and steps.stat().st_size > 0, _START_TIMEOUT, "the learner and its policy")
            before = network.traffic()
            for number in range(cuts):
                time.sleep(between)
                with network.cut("learner"):
                    time.sleep(cut_seconds)
                say(f"  {number + 1} of {cuts} cuts")
            time.sleep(between)
            (folder / "finish").touch()
            _wait(lambda: actor.poll() is not None, _FLUSH_TIMEOUT, "the acknowledgement of what was sent")
            after = network.traffic()
        finally:
            for process in (actor, learner, *ends):
                stop(process)
    lost, acknowledged, _ = missing(folder / "run" / "journal", folder / "acknowledged")
    rows = np.loadtxt(steps, ndmin=2)
    gaps = np.diff(rows[:, 0])
    sent = {host: count - before.sent_bytes[host] for host, count in after.sent_bytes.items()}
    return NetworkRun(
        lost=lost,
        acknowledged=acknowledged,
        steps=len(rows),
        steps_per_s=float(len(gaps) / gaps.sum()),
        longest_step=float(gaps.max()),
        policies=len(set(rows[:, 1])),
        longest_backlog=int(rows[:, 2].max()),
        bytes_per_step={host: round(count / len(rows)) for host, count in sent.items()},
    )


def _link(side: str, network: WideArea, keys: Path) -> list[str]:
    at = f"{network.address('learner')}:{_LINK_PORT}"
    parameters = ("-p", f"side:={side}", "-p", f"at:={at}", "-p", f"keys:={keys / side}")
    return [str(find_executable("serl_link", "link", os.environ)), "--ros-args", *parameters]


def _this_host_alone() -> dict[str, str]:
    """Variables with which ROS 2 on a host keeps to its loopback interface, as ./serl sets them."""
    profile = str(Path(os.environ["SERL_WORKSPACE"]) / "config" / "fastdds.xml")
    return {
        "ROS_STATIC_PEERS": "",
        "FASTDDS_DEFAULT_PROFILES_FILE": profile,
        "FASTRTPS_DEFAULT_PROFILES_FILE": profile,
    }


def _wait(condition: Callable[[], bool], timeout: float, what: str) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise CommandError(f"waited {timeout:.0f} s for {what}")
        time.sleep(0.05)
