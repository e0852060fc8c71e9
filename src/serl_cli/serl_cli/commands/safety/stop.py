# SPDX-License-Identifier: Apache-2.0
"""``serl estop``, ``serl reset-estop`` and ``serl driver``."""

from typing import Annotated, Literal

import typer

from serl_cli.commands.options import complete_graph

NamespaceOption = Annotated[str, typer.Option(help="Only the arm in this namespace.")]
GraphOption = Annotated[
    str, typer.Option("--graph", help="Only the arms of this running graph.", autocompletion=complete_graph)
]


def estop(graph: GraphOption = "", namespace: NamespaceOption = "") -> None:
    """Stop your arms now: all of them, in every domain and namespace, unless some are chosen.

    Says of each whether it stopped; the exit status is 1 if one did not, or if there is none.

    The stop is latched: only [bold]./serl reset-estop[/bold] releases it. This is software; it does not replace the
    button on the robot.

    Examples:
        ./serl estop
        ./serl estop --namespace left
    """
    from serl_launch.clients import estop_node

    estop_node.stop(graph, namespace)


def reset_estop(graph: GraphOption = "", namespace: NamespaceOption = "") -> None:
    """Release the software e-stop of one arm. It holds on until it is led again.

    Where there are several arms, choose with --graph, --namespace or ROS_DOMAIN_ID.

    Examples:
        ./serl reset-estop
    """
    from serl_launch.clients import estop_node

    estop_node.reset(graph, namespace)


def driver(
    what: Annotated[
        Literal["hold", "release", "connect", "activate"],
        typer.Argument(
            help="Torque on, where the arm is; torque off; a new connection, after a fault; or the activation of a "
            "gripper, whose fingers open and close."
        ),
    ],
    graph: GraphOption = "",
    namespace: NamespaceOption = "",
) -> None:
    """Ask the driver of an arm to switch its torque on or off, or to connect anew, and say what comes of it.

    An arm that is found without torque stays limp until it is asked to hold. [bold]release[/bold] lets an arm without
    brakes fall: hold it first.

    Examples:
        ./serl driver hold
        ./serl driver connect --namespace left
    """
    from serl_launch.clients import driver_node

    driver_node.ask(what, graph, namespace)
