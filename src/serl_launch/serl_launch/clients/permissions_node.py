# SPDX-License-Identifier: Apache-2.0
"""A running graph beside the policy of who may do what: what its nodes do that they may not."""

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Final

from rclpy.node import Node
from serl_security.policy import Access, Enclave, in_namespace

_NODELESS: Final = "_NODE_NAME_UNKNOWN_"  # what ROS calls the node of an endpoint that no node has told of
_TOPIC: Final = "rt"
_SERVICES: Final = {"rq": "Request", "rr": "Reply"}
_DISCOVERY: Final = "ros_discovery_info"  # by which nodes find each other
_WRITES: Final = {"rt": Access.PUBLISH, "rq": Access.REQUEST, "rr": Access.REPLY}
_READS: Final = {"rt": Access.SUBSCRIBE, "rq": Access.REPLY, "rr": Access.REQUEST}


def nodes(node: Node) -> list[str]:
    """Full names of the nodes that `node` has discovered, itself left out; a name that two have is there twice."""
    found = [f"{namespace.rstrip('/')}/{name}" for name, namespace in node.get_node_names_and_namespaces()]
    return sorted(full for full in found if full != node.get_fully_qualified_name())


def denied(node: Node, enclaves: Sequence[Enclave], namespaces: Sequence[str] = ("/",)) -> list[str]:
    """What takes part in the graph, as far as `node` has discovered it, and the policy does not allow; sorted lines.

    It is looked at topic by topic, so that what has a node's name, or none, cannot hide behind the node. `node`
    itself is left out.

    Args:
        node: that looks.
        enclaves: of the policy.
        namespaces: of the graph or graphs that are looked at; names of the policy are joined with each of them, as in a
            keystore. Nodes outside of them have no enclave, which is a line, too.
    """
    found = set()
    own: dict[str, list[Enclave]] = {}
    for full in nodes(node):
        own[full] = [
            enclave
            for enclave in enclaves
            if any(fnmatchcase(full, in_namespace(each, place)) for each in enclave.nodes for place in namespaces)
        ]
        if not own[full]:
            found.add(f"{full}: expected a profile of an enclave, found none")
    for full, access, what in _endpoints(node):
        allowed = own.get(full)
        if allowed is None:
            found.add(f"no node of ROS: {access.value} {what}")
        elif allowed and not any(each.allows(access, what, place) for each in allowed for place in namespaces):
            paths = ", ".join(enclave.path for enclave in allowed)
            found.add(f"{full}: {access.value} {what}: not allowed by the enclave {paths}")
    return sorted(found)


def _endpoints(node: Node) -> Iterator[tuple[str, Access, str]]:
    """Node, access and name of all that others write and read; "" for what is of no node."""
    for topic, _ in node.get_topic_names_and_types(no_demangle=True):
        if topic == _DISCOVERY:
            continue
        kind, name = _name(topic)
        for look, accesses in (
            (node.get_publishers_info_by_topic, _WRITES),
            (node.get_subscriptions_info_by_topic, _READS),
        ):
            for endpoint in look(topic, no_mangle=True):
                namespace = endpoint.node_namespace.rstrip("/")
                full = f"{namespace}/{endpoint.node_name}" if endpoint.node_name != _NODELESS else ""
                if full != node.get_fully_qualified_name():
                    yield full, accesses[kind], name


def _name(topic: str) -> tuple[str, str]:
    """What a topic of DDS is to ROS: its kind, and the name of the topic or service."""
    kind, _, name = topic.partition("/")
    end = _SERVICES.get(kind, "")
    if kind in _WRITES and name.endswith(end):
        return kind, f"/{name.removesuffix(end)}"
    return _TOPIC, topic  # of DDS alone: no name of ROS begins without a /
