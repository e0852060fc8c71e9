# SPDX-License-Identifier: Apache-2.0
"""Serves the operator's console for a graph that runs."""

import getpass
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import typer
from rcl_interfaces.srv import GetParameters
from serl_config.listening import PortError, listening
from serl_teleop.console.console_server import ConsoleServer
from serl_teleop.console.graph_console import GraphConsole
from serl_teleop.console.server_thread import served

from serl_launch import domain
from serl_launch.clients import arms
from serl_launch.clients.client_node import Client
from serl_launch.errors import CommandError, Interrupted
from serl_tasks import get_task, task_names

EVERYWHERE = "0.0.0.0"
HERE = "127.0.0.1"


def run(graph: str, namespace: str, *, network: bool, port: int) -> None:
    """Serves the console of a running graph until Ctrl-C.

    Args:
        graph: name of the graph, or of its run; empty: as `domain.join` takes it.
        namespace: of the arm.
        network: whether other machines may lead it.
        port: to listen on; 0: any that is free.

    Raises:
        CommandError: no or several graphs could be meant, nobody answers there, or the port is taken.
        Interrupted: a person pressed Ctrl-C.
    """
    domain.join(Path(graph).name)
    with serving("", namespace, network=network, port=port, say=typer.echo):
        typer.echo("Ctrl-C ends it.")
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            raise Interrupted("the console has ended; the graph goes on") from None


@contextmanager
def serving(
    task: str, namespace: str, *, network: bool, port: int, say: Callable[[str], object], quiet: bool = False
) -> Iterator[None]:
    """Serves the console of the graph in the ROS domain of the environment, in threads of its own.

    Args:
        task: that the arm does; empty: the arm controller is asked.
        namespace: of the arm.
        network: whether other machines may lead it.
        port: to listen on; 0: any that is free.
        say: takes lines for a person: where the console is, who comes and goes.
        quiet: say only where it is.

    Raises:
        CommandError: nobody answers, or the port is taken.
    """
    host = EVERYWHERE if network else HERE
    stop = threading.Event()
    with Client(namespace) as client:
        console = GraphConsole(client.node, get_task(task or task_of(client)), _halt(client.node.get_namespace()))
        server = ConsoleServer(console, host=host, say=(lambda _: None) if quiet else say)

        def spin() -> None:
            while not stop.is_set():
                client.executor.spin_once(0.1)

        thread = threading.Thread(target=spin, name="console")
        try:
            with listening(host, port) as on, served(server.app, on):
                thread.start()
                for line in _where(on.getsockname()[1], server.address_path, network=network):
                    say(line)
                yield
        except PortError as error:
            raise CommandError(str(error)) from error
        finally:
            stop.set()
            if thread.ident is not None:
                thread.join()
            console.close()


def task_of(client: Client) -> str:
    """The task that the arm controller was started for."""
    answer = client.call(GetParameters, "arm_controller/get_parameters", GetParameters.Request(names=["task"]))
    task = answer.values[0].string_value if answer.values else ""
    if task not in task_names():
        raise CommandError(f"arm_controller has the task {task!r}: expected one of {', '.join(task_names())}")
    return task


def _halt(namespace: str) -> Callable[[], None]:
    """Tells the arm controllers of this machine by a signal, too, as `./serl estop` does: that needs no ROS."""
    domain_id, name = int(os.environ.get(domain.VARIABLE) or 0), namespace.rstrip("/")

    def halt() -> None:
        for arm in arms.local_arms():
            if (arm.domain_id, arm.namespace) == (domain_id, name):
                arm.halt()

    return lambda: threading.Thread(target=halt, name="halt").start()  # to look for processes takes a while


def _where(port: int, path: str, *, network: bool) -> Iterator[str]:
    if not network:
        yield f"Console:  http://localhost:{port}{path}"
        yield f"From another machine, first:  ssh -L {port}:localhost:{port} {getpass.getuser()}@{socket.gethostname()}"
        return
    yield f"Console:  http://{socket.gethostname()}:{port}{path}"
    for address in _addresses():
        yield f"      or  http://{address}:{port}{path}"
    yield (
        f"Exposed: whoever reaches port {port} of this machine and knows this address sees the cameras, and leads, "
        "judges, pauses and stops the arm. It is not encrypted: keep it to a network that you trust."
    )


def _addresses() -> list[str]:
    """IPv4 addresses under which this machine knows itself, those of loopback aside."""
    try:
        found = socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET, socket.SOCK_STREAM)
    except socket.gaierror:
        return []
    return sorted({str(entry[4][0]) for entry in found if not str(entry[4][0]).startswith("127.")})
