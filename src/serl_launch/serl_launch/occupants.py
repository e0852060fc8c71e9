# SPDX-License-Identifier: Apache-2.0
"""Who is in a ROS domain already: two nodes of one name there would take each other's messages."""

from collections.abc import Iterable

from serl_launch import domain
from serl_launch.errors import DomainTakenError
from serl_launch.language.launch_plan import LaunchPlan

_DISCOVERY = 0.8  # [s] in which the nodes of a domain show up


def refuse_doubles(plan: LaunchPlan) -> None:
    """Looks whether nodes that a plan starts run already, in the domain of the environment.

    Raises:
        DomainTakenError: some do; names them.
    """
    domain_id = domain.environment_domain() or 0
    wanted = {name for spec in plan.processes if (name := spec.node or _named(spec.command))}
    if wanted and domain.is_in_use(domain_id) and (doubles := _running(wanted, domain_id)):
        names = ", ".join(sorted(doubles)[:4]) + (" ..." if len(doubles) > 4 else "")
        raise DomainTakenError(
            f"{names}: running in ROS domain {domain_id} already; end that graph, choose another {domain.VARIABLE}, or "
            "give a second arm its namespace:="
        )


def _named(command: Iterable[str]) -> str | None:
    """Full name of a node that is given a name and no namespace."""
    names = [word.partition(":=")[2] for word in command if word.startswith("__node:=")]
    return f"/{names[-1]}" if names else None


def _running(wanted: Iterable[str], domain_id: int) -> set[str]:
    from serl_launch.clients.client_node import Client

    def doubles() -> set[str]:
        nodes = client.node.get_node_names_and_namespaces()
        return {f"{namespace.rstrip('/')}/{name}" for name, namespace in nodes}.intersection(wanted)

    with Client(domain_id=domain_id) as client:
        client.spin_until(lambda: bool(doubles()), _DISCOVERY)
        return doubles()
