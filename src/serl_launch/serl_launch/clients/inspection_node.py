# SPDX-License-Identifier: Apache-2.0
"""What ``serl nodes``, ``topics``, ``services`` and ``actions`` print: the graph as this process discovers it."""

import itertools
import statistics
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import typer
from rclpy.action.graph import (
    get_action_client_names_and_types_by_node,
    get_action_names_and_types,
    get_action_server_names_and_types_by_node,
)
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.topic_endpoint_info import TopicEndpointInfo

from serl_launch import domain
from serl_launch.clients.client_node import Client
from serl_launch.clients.message_text import SHORT_LENGTH, message_class, select, to_yaml
from serl_launch.errors import CommandError

_DISCOVERY = 5.0  # [s] to wait for a topic or node that was named
_REPORT_PERIOD = 1.0  # [s] between lines of topic_rate
_FOREVER = float("inf")


def nodes(name: str, graph: str) -> None:
    """Lists the nodes, or shows one."""
    with _looking_at(graph) as client:
        client.settle()
        if not name:
            _print(full for _, _, full in _nodes(client.node))
            return
        base, namespace, full = _find_node(client, name)
        node = client.node
        _section(full, "Subscribers", node.get_subscriber_names_and_types_by_node(base, namespace))
        _section("", "Publishers", node.get_publisher_names_and_types_by_node(base, namespace))
        _section("", "Service Servers", node.get_service_names_and_types_by_node(base, namespace))
        _section("", "Service Clients", node.get_client_names_and_types_by_node(base, namespace))
        _section("", "Action Servers", get_action_server_names_and_types_by_node(node, base, namespace))
        _section("", "Action Clients", get_action_client_names_and_types_by_node(node, base, namespace))


def topics(types: bool, everything: bool, graph: str) -> None:
    """Lists the topics."""
    _list(lambda node: node.get_topic_names_and_types(), types, everything, graph)


def services(types: bool, everything: bool, graph: str) -> None:
    """Lists the services."""
    _list(lambda node: node.get_service_names_and_types(), types, everything, graph)


def actions(types: bool, graph: str) -> None:
    """Lists the actions."""
    _list(get_action_names_and_types, types, False, graph)


def topic_info(topic: str, graph: str) -> None:
    """Shows type, publishers and subscriptions of a topic with their quality of service."""
    with _looking_at(graph) as client:
        name, type_name = _find_topic(client, topic)
        client.settle()
        publishers = client.node.get_publishers_info_by_topic(name)
        subscriptions = client.node.get_subscriptions_info_by_topic(name)
        typer.echo(f"Type: {type_name}")
        typer.echo(f"\nPublisher count: {len(publishers)}")
        for endpoint in publishers:
            typer.echo(_describe(endpoint))
        typer.echo(f"\nSubscription count: {len(subscriptions)}")
        for endpoint in subscriptions:
            typer.echo(_describe(endpoint))


def topic_rate(topic: str, window: int, seconds: float, graph: str) -> None:
    """Prints the rate of a topic once a second."""
    arrivals: deque[float] = deque(maxlen=window)
    with _looking_at(graph) as client:
        name, type_name = _find_topic(client, topic)
        client.node.create_subscription(
            message_class(type_name),
            name,
            lambda _: arrivals.append(time.monotonic()),
            _matching_qos(client.node, name, depth=1000),
            raw=True,
        )
        end = time.monotonic() + (seconds or _FOREVER)
        while time.monotonic() < end:
            before = arrivals[-1] if arrivals else None
            client.spin_until(lambda: False, min(_REPORT_PERIOD, max(0.0, end - time.monotonic())))
            if len(arrivals) < 2 or arrivals[-1] == before:
                typer.echo("no new messages")
                continue
            times = list(arrivals)
            gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
            typer.echo(
                f"average rate: {len(gaps) / (times[-1] - times[0]):.3f}\n\tmin: {min(gaps):.4f}s max: {max(gaps):.4f}s"
                f" std dev: {statistics.pstdev(gaps):.5f}s window: {len(times)}"
            )


def topic_echo(topic: str, count: int, field: str, full: bool, timeout: float, graph: str) -> None:
    """Prints messages of a topic as YAML documents; `count` 0 and `timeout` 0 [s] mean without end.

    Raises:
        CommandError: there is no such topic or field, or nothing came in time.
    """
    waiting: deque[Any] = deque()
    longest = None if full else SHORT_LENGTH
    with _looking_at(graph) as client:
        name, type_name = _find_topic(client, topic)
        client.node.create_subscription(
            message_class(type_name),
            name,
            lambda message: waiting.append(message),
            _matching_qos(client.node, name, depth=10),
        )
        printed = 0
        while not count or printed < count:
            if not client.spin_until(lambda: bool(waiting), timeout or _FOREVER):
                raise CommandError(f"no message on {name} within {timeout:g} s")
            message = waiting.popleft()
            typer.echo(f"{to_yaml(select(message, field) if field else message, longest)}---")
            printed += 1


@contextmanager
def _looking_at(graph: str) -> Iterator[Client]:
    found = domain.join(graph)
    if found is not None and sys.stderr.isatty():
        typer.secho(f"# {found.name}, domain {found.domain_id}", err=True, dim=True)
    with Client() as client:
        yield client


def _nodes(node: Node) -> list[tuple[str, str, str]]:
    """Name, namespace and full name of every node but ours and hidden ones."""
    found = {(name, namespace) for name, namespace in node.get_node_names_and_namespaces()}
    return sorted(
        (name, namespace, f"{namespace.rstrip('/')}/{name}")
        for name, namespace in found
        if name != node.get_name() and not name.startswith("_")
    )


def _find_node(client: Client, name: str) -> tuple[str, str, str]:
    wanted = name if name.startswith("/") else f"/{name}"
    matches = [node for node in _nodes(client.node) if node[2] == wanted]
    if not matches:
        known = ", ".join(full for _, _, full in _nodes(client.node)) or "none"
        raise CommandError(f"no node {wanted}; running: {known}")
    return matches[0]


def _find_topic(client: Client, topic: str) -> tuple[str, str]:
    """Full name and type of a topic, waiting for it to appear."""
    name = client.node.resolve_topic_name(topic if topic.startswith("/") else f"/{topic}")

    def types() -> Sequence[str]:
        return dict(client.node.get_topic_names_and_types()).get(name, [])

    if not client.spin_until(lambda: bool(types()), _DISCOVERY):
        raise CommandError(f"no topic {name} in domain {domain.environment_domain() or 0}; see ./serl topics")
    if len(types()) > 1:
        raise CommandError(f"{name} has several types: {', '.join(types())}")
    return name, types()[0]


def _matching_qos(node: Node, name: str, depth: int) -> QoSProfile:
    """The strictest profile that every publisher of the topic satisfies; latched values come only if all latch."""
    offered = [endpoint.qos_profile for endpoint in node.get_publishers_info_by_topic(name)]
    reliable = offered and all(qos.reliability == ReliabilityPolicy.RELIABLE for qos in offered)
    latched = offered and all(qos.durability == DurabilityPolicy.TRANSIENT_LOCAL for qos in offered)
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=depth,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
    )


def _describe(endpoint: TopicEndpointInfo) -> str:
    qos = endpoint.qos_profile
    policies = [qos.reliability.name, qos.durability.name]
    if qos.history in (HistoryPolicy.KEEP_LAST, HistoryPolicy.KEEP_ALL):  # some middlewares do not tell others
        policies.append(f"{qos.history.name} {qos.depth or ''}".strip())
    full = f"{endpoint.node_namespace.rstrip('/')}/{endpoint.node_name}"
    return f"  {full}: {', '.join(policies)}, deadline {_period(qos.deadline)}, lifespan {_period(qos.lifespan)}"


def _period(value: Any) -> str:
    infinite = value.nanoseconds >= 2**63 - 1 or value.nanoseconds == 0
    return "infinite" if infinite else f"{value.nanoseconds / 1e9:g} s"


def _list(
    look: Callable[[Node], Iterable[tuple[str, Sequence[str]]]], types: bool, everything: bool, graph: str
) -> None:
    with _looking_at(graph) as client:
        client.settle()
        _print(
            f"{name} [{', '.join(kinds)}]" if types else name
            for name, kinds in sorted(look(client.node))
            if everything or "/_" not in name
        )


def _section(head: str, title: str, endpoints: Iterable[tuple[str, Sequence[str]]]) -> None:
    if head:
        typer.echo(head)
    typer.echo(f"  {title}:")
    for name, kinds in sorted(endpoints):
        typer.echo(f"    {name}: {', '.join(kinds)}")


def _print(lines: Iterable[str]) -> None:
    for line in (found := list(lines)):
        typer.echo(line)
    if not found:
        where = f"domain {domain.environment_domain() or 0}"
        typer.echo(f"serl: there is none in {where}; ./serl train and ./serl launch start a graph", err=True)
