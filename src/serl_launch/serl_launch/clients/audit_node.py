# SPDX-License-Identifier: Apache-2.0
"""What ``serl security audit`` prints: a running graph beside the policy of who may do what."""

from collections.abc import Sequence

import typer
from serl_config.text import printable
from serl_security.policy import Enclave

from serl_launch import domain
from serl_launch.clients.client_node import Client
from serl_launch.clients.permissions_node import denied, nodes
from serl_launch.errors import CommandError

_LOOK_AGAIN = 2.0  # [s] after which something that was found is looked at again: a node may have just begun, or ended
_MOST_LOOKS = 5  # until two find the same


def audit(graph: str, enclaves: Sequence[Enclave], namespaces: Sequence[str]) -> bool:
    """Prints what the policy does not allow; whether there is nothing.

    Args:
        graph: by its name; empty: as `domain.join` chooses.
        enclaves: of the policy.
        namespaces: as for `denied`.

    Raises:
        CommandError: no node is found.
    """
    domain.join(graph)
    with Client() as client:
        client.settle()
        found = denied(client.node, enclaves, namespaces)
        before: list[str] = []
        for _ in range(_MOST_LOOKS - 1):
            if found == before or not found:
                break
            client.spin_until(lambda: False, _LOOK_AGAIN)
            before, found = found, denied(client.node, enclaves, namespaces)
        running = nodes(client.node)
    where = f"domain {domain.environment_domain() or 0}"
    if not running and not found:
        raise CommandError(f"no node in {where}: nothing was looked at; a secured graph is seen with --secure alone")
    for line in found:
        typer.echo(printable(line))
    if not found:
        typer.echo(f"{where}: {len(running)} nodes, which do what the policy allows and nothing else")
    return not found
