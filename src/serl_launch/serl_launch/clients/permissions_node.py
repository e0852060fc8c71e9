# SPDX-License-Identifier: Apache-2.0
"""A running graph beside the policy of who may do what: what its nodes do that they may not."""

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase

from rclpy.node import Node
from serl_security.policy import Access, Enclave, in_namespace


def denied(node: Node, enclaves: Sequence[Enclave], namespaces: Sequence[str] = ("/",)) -> list[str]:
    """What nodes of the graph do, as far as `node` has discovered it, and the policy does not allow; sorted lines.

    Nodes whose names begin with `_`, as those of commands, and `node` itself are left out.

    Args:
        node: that looks.
        enclaves: of the policy.
        namespaces: of the graph or graphs that are looked at; names of the policy are joined with each of them, as in a
            keystore. Nodes outside of them have no enclave, which is a line, too.
    """
    found = []
    for name, namespace in node.get_node_names_and_namespaces():
        full = f"{namespace.rstrip('/')}/{name}"
        if name.startswith("_") or full == node.get_fully_qualified_name():
            continue
        own = [
            enclave
            for enclave in enclaves
            if any(fnmatchcase(full, in_namespace(each, place)) for each in enclave.nodes for place in namespaces)
        ]
        if not own:
            found.append(f"{full}: expected a profile of an enclave, found none")
        for access, what in _endpoints(node, name, namespace) if own else ():
            if not any(enclave.allows(access, what, place) for enclave in own for place in namespaces):
                paths = ", ".join(enclave.path for enclave in own)
                found.append(f"{full}: {access.value} {what}: not allowed by the enclave {paths}")
    return sorted(set(found))


def _endpoints(node: Node, name: str, namespace: str) -> Iterator[tuple[Access, str]]:
    looks = {
        Access.PUBLISH: node.get_publisher_names_and_types_by_node,
        Access.SUBSCRIBE: node.get_subscriber_names_and_types_by_node,
        Access.REPLY: node.get_service_names_and_types_by_node,
        Access.REQUEST: node.get_client_names_and_types_by_node,
    }
    for access, look in looks.items():
        for what, _ in look(name, namespace):
            yield access, what
