# SPDX-License-Identifier: Apache-2.0
"""Asks the driver of an arm to switch the torque on or off, or to connect anew, and says what comes of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

import typer
from diagnostic_msgs.msg import DiagnosticStatus
from serl_ros.qos import LATCHED
from std_srvs.srv import Trigger

from serl_launch import domain
from serl_launch.clients.client_node import Client
from serl_launch.errors import CommandError

_ASK_AGAIN: Final = 1.0  # [s] after which an arm that is not there yet is asked once more
_PATIENCE: Final = 10.0  # [s] for a driver that runs already
_WANTED: Final = {
    "hold": ("holding", "active"),
    "release": ("limp",),
    "connect": ("holding", "active", "limp"),
    "activate": ("fault", "holding", "active", "limp"),
}


def ask(what: str, graph: str, namespace: str) -> None:
    """Asks the driver of one arm, and prints in which state it is then.

    Args:
        what: hold, release, connect or activate.
        graph: running graph that is meant; empty: the only one.
        namespace: of the arm.

    Raises:
        CommandError: there is no driver, it refuses, or the arm does not do it.
    """
    domain.join(graph)
    with Client(namespace) as client:
        said = bring(client, what, _PATIENCE)
    typer.echo(said if what != "activate" else "it is being activated; when the fingers stand: ./serl driver connect")


def bring(
    client: Client, what: str, patience: float, tick: Callable[[], None] = lambda: None, *, needed: bool = True
) -> str:
    """Asks a driver until the arm is as it should be; what its status says then.

    Args:
        client: a node in the arm's namespace.
        what: hold, release, connect or activate.
        patience: longest wait [s].
        tick: called at least ten times a second.
        needed: ask once in any case; False: not where the arm is so already.

    Raises:
        CommandError: there is no driver, it refuses, is in fault, or does not get there in time.
    """
    heard: list[DiagnosticStatus] = []
    subscription = client.node.create_subscription(DiagnosticStatus, "driver/status", heard.append, LATCHED)
    service = client.node.create_client(Trigger, f"driver/{what}")
    asked, answer, due = not needed, None, 0.0

    def done() -> bool:
        nonlocal asked, answer, due
        state = heard[-1].values[0].value if heard and heard[-1].values else ""
        if answer is not None and answer.done():
            reply, answer = answer.result(), None
            if not reply.success:
                raise CommandError(reply.message)
            asked = True
        if asked and answer is None and state in _WANTED[what]:
            return True
        if state == "fault" and what == "hold":
            raise CommandError(f"the arm is in fault: {heard[-1].message}; see to that, then ./serl driver connect")
        ready = state not in ("", "unconfigured") or what == "connect"
        if ready and answer is None and time.monotonic() >= due and service.service_is_ready():
            answer, due = service.call_async(Trigger.Request()), time.monotonic() + _ASK_AGAIN
        return False

    try:
        if not client.spin_until(done, patience, tick):
            found: Any = heard[-1].message if heard else "nothing is heard of a driver: does the graph run?"
            raise CommandError(f"driver/{what}: waited {patience:g} s: {found}")
        return str(heard[-1].message)
    finally:
        client.node.destroy_client(service)
        client.node.destroy_subscription(subscription)
