# SPDX-License-Identifier: Apache-2.0
"""Calls the arm's e-stop services from the command line."""

import os

import typer
from std_srvs.srv import SetBool, Trigger

from serl_bringup import domain
from serl_bringup.client_node import Client
from serl_bringup.errors import CommandError


def stop(graph: str, namespace: str) -> None:
    """Stops the arm of one graph, or of every graph that runs when none is chosen: stopping too much does no harm.

    Raises:
        CommandError: an arm could not be stopped; those that could are stopped.
    """
    if graph or domain.environment_domain() is not None:
        domain.join(graph)
        _call(SetBool, "arm/estop", SetBool.Request(data=True), namespace)
        typer.echo("stopped; ./serl reset-estop releases it")
        return
    failures = []
    domains = [running.domain_id for running in domain.running_graphs()] or [0]
    for domain_id in domains:
        os.environ[domain.VARIABLE] = str(domain_id)
        try:
            _call(SetBool, "arm/estop", SetBool.Request(data=True), namespace)
            typer.echo(f"stopped the arm in domain {domain_id}; ./serl reset-estop releases it")
        except CommandError as error:
            failures.append(f"domain {domain_id}: {error}")
    if failures:
        raise CommandError("; ".join(failures))


def reset(graph: str, namespace: str) -> None:
    """Releases the e-stop of one graph.

    Raises:
        CommandError: several graphs run and none is chosen, or the arm refuses.
    """
    domain.join(graph)
    _call(Trigger, "arm/reset_estop", Trigger.Request(), namespace)
    typer.echo("released; the arm holds its measured pose")


def _call(service_type: type, name: str, request: SetBool.Request | Trigger.Request, namespace: str) -> None:
    with Client(namespace) as client:
        response = client.call(service_type, name, request)
    if not response.success:
        raise CommandError(f"{name} was refused: {response.message}")
