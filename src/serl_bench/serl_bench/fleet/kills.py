# SPDX-License-Identifier: Apache-2.0
"""Benchmark of what a fleet loses whose actors and learner are killed at random moments."""

from __future__ import annotations

import os
import random
import re
import signal
import sys
import time
from pathlib import Path

from diagnostic_msgs.msg import DiagnosticArray
from serl_launch.clients.action_call import ActionCall
from serl_launch.clients.client_node import Client
from serl_launch.errors import CommandError
from serl_rl.spec import TransitionSpec
from serl_rl.storage.journal import read_journal
from serl_ros.qos import RELIABLE_50

from serl_bench.benchmark import Bench, Measurement
from serl_bench.peer_processes import start, stop
from serl_interfaces.action import Train
from serl_launch import domain
from serl_tasks import get_task

ACTORS, KILLS = 4, 30
_TASK = "pick_cube"
_PROGRESS_TIMEOUT = (
    180.0  # [s] until what was killed is back and more is acknowledged; at first, until all have started
)
_STEPS = 10**9  # more than there is time for
_STARTED = re.compile(r"\[((?:actor|learner)-\d+)\]: process started with pid \[(\d+)\]")


def fleet_lost(bench: Bench) -> Measurement:
    """Transitions that an actor has said are acknowledged and that the journal does not hold, after 30 kill -9."""
    folder = bench.scratch / "fleet"
    folder.mkdir(exist_ok=True)
    log = folder / "log" / "launch.log"
    command = [
        *(sys.executable, "-m", "serl_cli", "launch", "fleet.launch.xml", "--log-dir", str(log.parent)),
        *(f"actors:={ACTORS}", f"task:={_TASK}", f"run_dir:={folder / 'run'}"),
    ]
    with domain.claim("bench fleet"), Client() as us:
        acknowledged: dict[str, int] = {}
        us.node.create_subscription(
            DiagnosticArray, "/diagnostics", lambda message: listen(message, acknowledged), RELIABLE_50
        )
        launch = start(command)
        killer = _Killer(bench, log, acknowledged)

        def tick() -> None:
            if launch.poll() is not None:
                raise CommandError(f"the fleet ended by itself with status {launch.returncode}")
            killer.look()

        goal = Train.Goal(demonstrations=ACTORS, max_env_steps=_STEPS, eval_every=2**31, eval_episodes=1)
        try:
            call = ActionCall(us, Train, "train")
            us.spin_until(call.server_is_ready, _PROGRESS_TIMEOUT, tick)
            result = call.run(goal, on_feedback=lambda _: None, tick=tick)
            raise CommandError(f"training ended after {len(killer.killed)} kills: {result.message}")
        except _Enough:
            pass
        finally:
            stop(launch)
    task = get_task(_TASK)
    spec = TransitionSpec.from_spaces(task.observation_space, task.action_space)
    lost = missing(folder / "run" / "journal", spec, acknowledged)
    total = sum(acknowledged.values())
    counts = {kind: sum(name.startswith(kind) for name in killer.killed) for kind in ("actor", "learner")}
    spread = f"of {total:,} acknowledged in {len(acknowledged)} sessions; {counts['learner']} kills of the learner"
    return Measurement(lost, spread, {"acknowledged": total, "sessions": len(acknowledged), "kills": counts})


def listen(message: DiagnosticArray, acknowledged: dict[str, int]) -> None:
    """Keep what actors say of their sessions: the identifier, and how many transitions of it are acknowledged."""
    for status in message.status:
        values = {value.key: value.value for value in status.values}
        if status.name.endswith(": learner") and "acknowledged" in values:
            session = values["session"]
            acknowledged[session] = max(acknowledged.get(session, 0), int(values["acknowledged"]))


def missing(journal: Path, spec: TransitionSpec, acknowledged: dict[str, int]) -> int:
    """How many of the acknowledged transitions a journal does not hold; tombstones count as one, as to their actor.

    Args:
        journal: folder of the learner's journal.
        spec: of its transitions.
        acknowledged: by session, the number from its beginning.
    """
    stored: dict[str, set[int]] = {session: set() for session in acknowledged}
    for _, record in read_journal(journal, spec):
        numbers = range(record.first_sequence, record.first_sequence + record.count)
        stored.setdefault(record.session_id, set()).update(numbers)
    return sum(len(set(range(count)) - stored[session]) for session, count in acknowledged.items())


class _Enough(Exception):
    """Raised once as many nodes were killed as the benchmark wants."""


class _Killer:
    """Kills an actor or the learner, again and again, each time after something more was acknowledged."""

    def __init__(self, bench: Bench, log: Path, acknowledged: dict[str, int]) -> None:
        self._bench, self._log, self._acknowledged = bench, log, acknowledged
        self._choose = random.Random(0)
        self.killed: list[str] = []
        self._before = 0
        self._at: float | None = None
        self._deadline = time.monotonic() + _PROGRESS_TIMEOUT

    def look(self) -> None:
        """Kill one when it is time to.

        Raises:
            _Enough: all were killed, and more was acknowledged since.
            CommandError: nothing more is acknowledged.
        """
        now = time.monotonic()
        if sum(self._acknowledged.values()) <= self._before:
            if now > self._deadline:
                raise CommandError(
                    f"waited {_PROGRESS_TIMEOUT:.0f} s after {len(self.killed)} kills for acknowledged transitions"
                )
            return
        if self._at is None:
            self._at = now + self._choose.uniform(0.0, 1.0)
        if now < self._at:
            return
        if len(self.killed) == KILLS:
            raise _Enough
        newest = dict(_STARTED.findall(self._log.read_text(encoding="utf-8", errors="replace")))
        name = self._choose.choice(sorted(newest))
        try:
            os.kill(int(newest[name]), signal.SIGKILL)
        except ProcessLookupError:
            return  # the one before, which is not back yet
        self.killed.append(name)
        if len(self.killed) % 10 == 0:
            self._bench.say(f"  {len(self.killed)} kills")
        self._before, self._at = sum(self._acknowledged.values()), None
        self._deadline = now + _PROGRESS_TIMEOUT
