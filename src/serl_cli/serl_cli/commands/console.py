# SPDX-License-Identifier: Apache-2.0
"""``serl console``: a page in the browser from which a person watches, leads, judges and stops."""

from typing import Annotated

import typer

from serl_cli.commands.options import complete_graph

CONSOLE_PORT = 8091

NetworkOption = Annotated[
    bool, typer.Option("--network", help="Let other machines open it, too: whoever has the address leads the arm.")
]
PortOption = Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0: any that is free.")]


def console(
    run: Annotated[
        str,
        typer.Argument(help="Run whose graph it is. Not needed when only one runs.", autocompletion=complete_graph),
    ] = "",
    namespace: Annotated[str, typer.Option(help="Of the arm.")] = "",
    network: NetworkOption = False,
    port: PortOption = CONSOLE_PORT,
) -> None:
    """Watch a running graph in a browser, lead the arm, judge episodes, and stop it.

    The graph must be running; [bold]./serl train --console[/bold] starts both.

    Examples:
        ./serl console
        ./serl console --network
    """
    from serl_launch.clients import console_node

    console_node.run(run, namespace, network=network, port=port)
