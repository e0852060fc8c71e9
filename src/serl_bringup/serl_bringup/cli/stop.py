# SPDX-License-Identifier: Apache-2.0
"""``serl estop`` and ``serl reset-estop``."""

from typing import Annotated

import typer

from serl_bringup.cli.options import GraphOption

NamespaceOption = Annotated[str, typer.Option(help="Namespace of the arm.")]


def estop(graph: GraphOption = "", namespace: NamespaceOption = "") -> None:
    """Stop the arm now. Stops the arms of all running graphs when none is chosen.

    The stop is latched: only [bold]./serl reset-estop[/bold] releases it. This is software; it does not replace the
    button on the robot.

    Examples:
        ./serl estop
        ./serl estop --namespace left
    """
    from serl_bringup import estop_node

    estop_node.stop(graph, namespace)


def reset_estop(graph: GraphOption = "", namespace: NamespaceOption = "") -> None:
    """Release the software e-stop. The arm holds its measured pose until it is led again.

    Examples:
        ./serl reset-estop
    """
    from serl_bringup import estop_node

    estop_node.reset(graph, namespace)
