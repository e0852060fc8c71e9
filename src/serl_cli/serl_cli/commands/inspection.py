# SPDX-License-Identifier: Apache-2.0
"""``serl nodes``, ``topics``, ``services`` and ``actions``: a look into a running graph, without the ros2 tools."""

from typing import Annotated

import typer

from serl_cli.commands.options import GraphOption

topics = typer.Typer(rich_markup_mode="rich", invoke_without_command=True)

TopicArgument = Annotated[str, typer.Argument(help="Name of the topic, as in [bold]./serl topics[/bold].")]
TypesOption = Annotated[bool, typer.Option("--types", "-t", help="Show types, too.")]
AllOption = Annotated[bool, typer.Option("--all", "-a", help="Show hidden ones, too (a name part begins with _).")]


def nodes(
    name: Annotated[str, typer.Argument(help="Show what this node publishes, subscribes to and offers.")] = "",
    graph: GraphOption = "",
) -> None:
    """List the nodes of the running graph, or show one.

    Examples:
        ./serl nodes
        ./serl nodes /arm_controller
    """
    from serl_launch.clients import inspection_node

    inspection_node.nodes(name, graph)


@topics.callback()
def topic_overview(context: typer.Context) -> None:
    """List topics, measure their rate, print their messages.

    Examples:
        ./serl topics
        ./serl topics hz /arm/state
        ./serl topics echo /arm/safety --once
        ./serl topics info /metrics
    """
    if context.invoked_subcommand is None:
        list_topics()


@topics.command("list")
def list_topics(types: TypesOption = False, everything: AllOption = False, graph: GraphOption = "") -> None:
    """List the topics of the running graph."""
    from serl_launch.clients import inspection_node

    inspection_node.topics(types, everything, graph)


@topics.command("info")
def topic_info(topic: TopicArgument, graph: GraphOption = "") -> None:
    """Show who publishes and subscribes, with which quality of service."""
    from serl_launch.clients import inspection_node

    inspection_node.topic_info(topic, graph)


@topics.command("hz")
def topic_rate(
    topic: TopicArgument,
    window: Annotated[int, typer.Option(min=2, help="Messages over which the rate is taken.")] = 10000,
    seconds: Annotated[float, typer.Option(min=0.0, help="Stop after so many seconds; 0: with Ctrl-C.")] = 0.0,
    graph: GraphOption = "",
) -> None:
    """Measure the rate of a topic, once a second until Ctrl-C."""
    from serl_launch.clients import inspection_node

    inspection_node.topic_rate(topic, window, seconds, graph)


@topics.command("echo")
def topic_echo(
    topic: TopicArgument,
    once: Annotated[bool, typer.Option("--once", help="Stop after the first message.")] = False,
    count: Annotated[int, typer.Option("--count", "-n", min=0, help="Stop after so many messages; 0: Ctrl-C.")] = 0,
    field: Annotated[str, typer.Option(help="Print only this field, such as header.stamp.")] = "",
    full: Annotated[bool, typer.Option("--full-length", "-f", help="Do not cut long arrays.")] = False,
    timeout: Annotated[float, typer.Option(min=0.0, help="Give up after so many seconds without one; 0: never.")] = 0.0,
    graph: GraphOption = "",
) -> None:
    """Print the messages of a topic as YAML."""
    from serl_launch.clients import inspection_node

    inspection_node.topic_echo(topic, 1 if once else count, field, full, timeout, graph)


def services(types: TypesOption = False, everything: AllOption = False, graph: GraphOption = "") -> None:
    """List the services of the running graph.

    Examples:
        ./serl services --types
    """
    from serl_launch.clients import inspection_node

    inspection_node.services(types, everything, graph)


def actions(types: TypesOption = False, graph: GraphOption = "") -> None:
    """List the actions of the running graph.

    Examples:
        ./serl actions --types
    """
    from serl_launch.clients import inspection_node

    inspection_node.actions(types, graph)
