# SPDX-License-Identifier: Apache-2.0
"""Leads the arm of a running graph by devices at this machine: the node `teleop`, in this terminal."""

from collections.abc import Sequence
from pathlib import Path

import typer
from serl_config.resources import listing
from serl_launch.clients.client_node import Client
from serl_launch.clients.console_node import task_of
from serl_launch.errors import CommandError
from serl_ros.node import run_node
from serl_teleop.teleop_node import TeleopNode

from serl_launch import domain


def settings_file(given: Path | None) -> Path:
    """The parameter file of devices: the one that is given, or config/teleop.yaml.

    Raises:
        CommandError: there is no such file.
    """
    if given is not None and not given.is_file():
        raise CommandError(f"--settings {given}: no such file; copy config/teleop.yaml")
    return given or Path(listing("config", ".yaml")["teleop"])


def lead(devices: Sequence[str], settings: Path | None, graph: str, namespace: str) -> None:
    """Runs the node until Ctrl-C.

    Args:
        devices: kinds; the first one has the highest priority.
        settings: parameter file; None: config/teleop.yaml.
        graph: name of the running graph, empty for the only one.
        namespace: of the arm.

    Raises:
        CommandError: there is no graph, or no such file.
        SystemExit: the devices cannot be used so.
    """
    domain.join(graph)
    with Client(namespace) as client:
        task = task_of(client)
    parameters = (f"task:={task}", f"devices:=[{','.join(devices)}]")
    arguments = ["--params-file", str(settings_file(settings)), "-r", "__node:=teleop_here"]
    arguments += [word for parameter in parameters for word in ("-p", parameter)]
    arguments += ["-r", f"__ns:=/{namespace.strip('/')}"] if namespace else []
    typer.echo(f"{task}: {', '.join(devices)}; Ctrl-C ends it, and the graph goes on.")
    run_node(TeleopNode, ["serl", "--ros-args", *arguments])
