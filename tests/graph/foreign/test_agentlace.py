# SPDX-License-Identifier: Apache-2.0
"""Scripts of SERL at our learner: clients as agentlace's wire is described, over deaths of gateway and learner."""

from __future__ import annotations

import os
import pickle
import signal
import socket
import threading
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from serl_launch.language.packages import find_executable
from serl_rl.spec import TransitionSpec
from serl_rl.storage.chunk import decode_chunk
from serl_rl.storage.journal import read_journal

from serl_tasks import get_task

zmq = pytest.importorskip("zmq", reason="./serl setup agentlace")
lz4_frame = pytest.importorskip("lz4.frame", reason="./serl setup agentlace")

TASK = get_task("pick_cube")
SPEC = TransitionSpec.from_spaces(TASK.observation_space, TASK.action_space)
LENGTH = 10  # steps of an episode


def command(executable: str, run_dir: Path, **parameters: object) -> list[str]:
    arguments = [
        part for name, value in {"run_dir": run_dir, **parameters}.items() for part in ("-p", f"{name}:={value}")
    ]
    return [str(find_executable("serl_training", executable, os.environ)), "--ros-args", *arguments]


def transition(actor: int, number: int) -> dict[str, Any]:
    """The number of an actor's transition is in its state."""
    states = [np.zeros((1, *SPEC.observation["state"].shape), np.float32) for _ in range(2)]
    for state, at in zip(states, (number, number + 1), strict=True):
        state[0, :2] = actor, at / 1000
    done = number % LENGTH == LENGTH - 1
    return {
        "observations": {"state": states[0]},
        "next_observations": {"state": states[1]},
        "actions": np.zeros(SPEC.action_dim, np.float32),
        "rewards": np.float32(done),
        "masks": 1.0 - done,
        "dones": done,
    }


class Script(threading.Thread):
    """An actor of SERL: adds transitions, and calls `update` as agentlace's own client does, which checks no answer."""

    def __init__(self, actor: int, port: int, count: int) -> None:
        super().__init__(daemon=True)
        self._actor, self._port, self._count = actor, port, count
        self._context = zmq.Context()
        self._items: list[Any] = []
        self._socket: Any = None
        self.done = False
        self.stopping = False

    def run(self) -> None:
        while self._ask({"type": "hash"}) is None and not self.stopping:
            time.sleep(0.1)
        while not self.stopping and not self.done:
            if len(self._items) < self._count:
                self._items += [transition(self._actor, len(self._items) + each) for each in range(7)]
            self._update()
            time.sleep(0.02)
        self._context.destroy(linger=0)

    def _update(self) -> None:
        answer = self._ask({"type": "get_last_update_id", "payload": {"store_name": "actor_env"}})
        if answer is None or not answer["success"]:
            return
        after = answer["payload"]
        if after >= len(self._items) - 1:
            self.done = len(self._items) >= self._count
            return
        payload = {"data": self._items[after + 1 :], "last_id": len(self._items) - 1}
        self._ask({"type": "datastore", "store_name": "actor_env", "payload": payload})

    def _ask(self, request: dict[str, Any]) -> Any:
        if self._socket is None:
            self._socket = self._context.socket(zmq.REQ)
            self._socket.setsockopt(zmq.LINGER, 0)
            self._socket.setsockopt(zmq.RCVTIMEO, 800)
            self._socket.connect(f"tcp://127.0.0.1:{self._port}")
        try:
            self._socket.send(lz4_frame.compress(pickle.dumps(request)))
            return pickle.loads(lz4_frame.decompress(self._socket.recv()))  # noqa: S301 - as agentlace does
        except zmq.Again:
            self._socket.close()
            self._socket = None
            return None


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def stored(run_dir: Path) -> Counter[tuple[int, int]]:
    """Actor and number of every transition in the journal."""
    found: Counter[tuple[int, int]] = Counter()
    following: dict[tuple[str, str], int] = {}
    for _, record in read_journal(run_dir / "journal", SPEC):
        session = (record.actor_id, record.session_id)
        repeated = max(0, following.get(session, 0) - record.first_sequence)  # which the learner passes over
        following[session] = record.first_sequence + record.count
        for row in decode_chunk(record.data, SPEC).observation["state"][repeated:-1]:
            found[int(row[0]), round(1000 * float(row[1]))] += 1
    return found


@pytest.mark.timeout(240)
def test_nothing_that_scripts_send_is_lost_or_doubled_whoever_dies(ros: Any, processes: Any, tmp_path: Path) -> None:
    run, (port, broadcast) = tmp_path / "run", free_ports(2)
    learner = processes.start(*command("learner", run, n_steps=2))
    gateway_command = command("agentlace_gateway", run, port=port, broadcast_port=broadcast)
    gateway = processes.start(*gateway_command)
    scripts = [Script(actor, port, 1400) for actor in (1, 2)]
    for script in scripts:
        script.start()
    try:
        for victim in ("gateway", "learner", "gateway"):
            before = sum(stored(run).values()) if (run / "journal").exists() else 0
            ros.spin_until(
                lambda least=before + 200: (run / "journal").exists() and sum(stored(run).values()) >= least,
                90.0,
                lambda gateway=gateway, learner=learner: f"transitions:\n{gateway.output()}{learner.output()}"[-4000:],
            )
            process = gateway if victim == "gateway" else learner
            process.send(signal.SIGKILL)
            process.wait()
            if victim == "gateway":
                gateway = processes.start(*gateway_command)
            else:
                learner = processes.start(*command("learner", run, n_steps=2))
        ros.spin_until(
            lambda: all(script.done for script in scripts) and len(stored(run)) >= 2800,
            120.0,
            lambda: f"the scripts to have sent everything, {len(stored(run))} are there:\n{gateway.output()[-3000:]}",
        )
    finally:
        for script in scripts:
            script.stopping = True
        for script in scripts:
            script.join()
    gateway.send(signal.SIGINT)
    assert gateway.wait(5.0) == 0
    assert "Traceback" not in gateway.output()
    counts = stored(run)
    assert counts == Counter((actor, number) for actor in (1, 2) for number in range(1400))
