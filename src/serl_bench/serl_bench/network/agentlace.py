# SPDX-License-Identifier: Apache-2.0
"""Benchmarks of agentlace's own client at our gateway, a learner's journal behind it, and at agentlace's own server."""

from __future__ import annotations

import importlib.util
import os
import select
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from serl_launch.clients.client_node import Client
from serl_launch.errors import CommandError
from serl_launch.language.packages import find_executable
from serl_training.link.graph_insertion_client import InsertionClient

from serl_bench.benchmark import Bench, Measurement
from serl_bench.peer_processes import start, stop
from serl_interfaces.srv import InsertTransitions
from serl_launch import domain

BATCH = 30
"""Transitions of an update: SERL's scripts send after so many steps."""
UPDATES = {"state": 100, "images": 20}
WINDOWS = 5
_TASKS = {"state": "pick_cube", "images": "pick_cube_vision"}
_START_TIMEOUT = 60.0  # [s]
_WINDOW_TIMEOUT = 120.0  # [s]
_NEVER = "training_starts: 10000000\nreplay_capacity: 20000\n"
"""Settings of a learner that stores, and does not train beside it."""
_PICTURES = "vision: {encoder: {cached: false}}\n"
"""What makes it keep pictures, as agentlace's stores do, and no features of them."""


@dataclass(frozen=True)
class _Server:
    """A trainer server that is measured."""

    port: int
    broadcast: int
    namespace: str = ""
    """Where the nodes behind it are; empty: there are none."""


def agentlace_state_per_s(bench: Bench) -> Measurement:
    """Transitions/s of agentlace's client into our gateway over those into agentlace's server, state."""
    return _compare(bench, "state", {"ours": _NEVER})


def agentlace_image_per_s(bench: Bench) -> Measurement:
    """Transitions/s of agentlace's client into our gateway over those into agentlace's server, with two pictures each.

    Our gateway makes features of the pictures, which are stored; beside it one that keeps them.
    """
    return _compare(bench, "images", {"ours": _NEVER, "ours, pictures kept": _NEVER + _PICTURES})


def _compare(bench: Bench, kind: str, settings: dict[str, str]) -> Measurement:
    """Measure all servers by turns, so that a busy moment of the machine is one of each."""
    _check_agentlace()
    with domain.claim("bench agentlace"), ExitStack() as stack:
        servers = {"agentlace": stack.enter_context(_their_server())}
        for number, (name, learning) in enumerate(settings.items()):
            folder = bench.scratch / f"agentlace-{kind}-{number}"
            folder.mkdir()
            servers[name] = stack.enter_context(_our_server(folder, kind, learning))
        clients = {
            name: stack.enter_context(_Sender(server, kind, UPDATES[kind] * BATCH)) for name, server in servers.items()
        }
        rates: dict[str, list[float]] = {name: [] for name in servers}
        for window in range(-1, WINDOWS):
            for name, client in clients.items():
                rate = client.window()
                if window >= 0:  # in the first one everything is compiled, and caches are filled
                    rates[name].append(rate)
    medians = {name: statistics.median(each) for name, each in rates.items()}
    spread = "; ".join(
        f"{name} {medians[name]:,.0f} ({min(each):,.0f} to {max(each):,.0f})" for name, each in rates.items()
    )
    load = os.getloadavg()[0]
    return Measurement(
        medians["ours"] / medians["agentlace"], f"transitions/s: {spread}; load {load:.0f}", {"windows": rates}
    )


class _Sender:
    """A process with agentlace's client, and a look at what the learner has stored of what it sent."""

    def __init__(self, server: _Server, kind: str, count: int) -> None:
        self._server, self._kind, self._count = server, kind, count
        self._stack = ExitStack()
        self._sent = 0

    def __enter__(self) -> _Sender:
        if self._server.namespace:
            self._client = self._stack.enter_context(Client(self._server.namespace))
            service = self._client.node.create_client(InsertTransitions, "learner/insert")
            self._insertion = InsertionClient(self._client.node, service, actor_id="bench")
            self._await_stored(_START_TIMEOUT)
        self._process = _peer("client", self._server.port, self._server.broadcast, self._kind, self._count, BATCH)
        self._stack.callback(self._process.wait)
        self._stack.callback(self._process.kill)
        _await_line(self._process, "ready", _START_TIMEOUT)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def window(self) -> float:
        """Transitions/s from the first one that is sent until the last one is stored: by us, in the journal."""
        assert self._process.stdin is not None
        started = time.monotonic()
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        _await_line(self._process, "sent", _WINDOW_TIMEOUT)
        self._sent += self._count
        if self._server.namespace:
            self._await_stored(_WINDOW_TIMEOUT)
        return self._count / (time.monotonic() - started)

    def _await_stored(self, timeout: float) -> None:
        insertion = self._insertion
        insertion.connected = False

        def stored() -> bool:
            if insertion.ask() and insertion.stored.env_steps < self._sent:
                insertion.connected = False
                insertion.ask()
            insertion.pump()
            return insertion.connected and insertion.stored.env_steps >= self._sent

        if not self._client.spin_until(stored, timeout):
            raise CommandError(
                f"the learner has {insertion.stored.env_steps} of {self._sent} transitions after {timeout:.0f} s"
            )


@contextmanager
def _our_server(folder: Path, kind: str, learning: str) -> Iterator[_Server]:
    """A learner and the gateway in front of it, in a namespace of their own."""
    path = folder / "learning.yaml"
    path.write_text(learning, encoding="utf-8")
    port, broadcast = _free_ports()
    namespace = folder.name.replace("-", "_")
    common = {"run_dir": folder / "run", "task": _TASKS[kind], "learning": path, "simulated": "true"}
    with ExitStack() as stack:
        for node, own in (("learner", {}), ("agentlace_gateway", {"port": port, "broadcast_port": broadcast})):
            parameters = [part for name, value in (common | own).items() for part in ("-p", f"{name}:={value}")]
            program = str(find_executable("serl_training", node, os.environ))
            process = start([program, "--ros-args", "-r", f"__ns:=/{namespace}", *parameters])
            stack.callback(stop, process)
        yield _Server(port, broadcast, namespace)


@contextmanager
def _their_server() -> Iterator[_Server]:
    port, broadcast = _free_ports()
    process = _peer("server", port, broadcast)
    try:
        _await_line(process, "ready", _START_TIMEOUT)
        yield _Server(port, broadcast)
    finally:
        process.kill()
        process.wait()


def _check_agentlace() -> None:
    if importlib.util.find_spec("agentlace") is None:
        raise CommandError(
            "agentlace is not installed, and is on no package index: fetch github.com/youliangtan/agentlace and have "
            "its folder in PYTHONPATH; ./serl setup agentlace brings what it needs"
        )


def _peer(role: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "serl_bench.network.agentlace_process", role, *map(str, arguments)]
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )


def _await_line(process: subprocess.Popen[str], expected: str, timeout: float) -> None:
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], timeout)
    found = process.stdout.readline().strip() if ready else f"nothing for {timeout:.0f} s"
    if found != expected:
        raise CommandError(f"a process of agentlace's: expected {expected}, found {found or 'its end'}")


def _free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        return one.getsockname()[1], two.getsockname()[1]
