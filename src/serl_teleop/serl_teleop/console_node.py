# SPDX-License-Identifier: Apache-2.0
"""Node `console`: the operator's console as a node of a launch file. `./serl console` is the same without one."""

from contextlib import ExitStack

from rclpy.node import Node
from serl_config.listening import listening
from serl_ros.diagnostics import OK, Diagnostics
from serl_ros.log import INFO, log
from serl_ros.node import run_node
from serl_ros.parameters import declare

from serl_tasks import get_task, task_names
from serl_teleop.console.console_server import ConsoleServer
from serl_teleop.console.graph_console import GraphConsole
from serl_teleop.console.server_thread import served


class ConsoleNode(Node):
    """Serves the page, and publishes `teleop/action` while somebody leads from it."""

    def __init__(self) -> None:
        """Declare parameters, connect and listen."""
        super().__init__("console")
        task = get_task(declare(self, "task", "pick_cube", "Task whose actions are sent.", choices=task_names()))
        host = declare(self, "host", "127.0.0.1", "Address to listen on; 0.0.0.0 lets the network lead the arm.")
        port = declare(self, "port", 8091, "Port to listen on; 0: any that is free.", range=(0, 65535))
        self._console = GraphConsole(self, task)
        server = ConsoleServer(self._console, host=host, say=lambda line: log(self, INFO, line))
        self._diagnostics = Diagnostics(self, "console")
        self._open = ExitStack()
        socket = self._open.enter_context(listening(host, port))
        self._open.enter_context(served(server.app, socket))
        self._diagnostics.set("page", OK, f"listens on {host} port {socket.getsockname()[1]}")
        log(self, INFO, f"open http://{host}:{socket.getsockname()[1]}{server.address_path}")

    def close(self) -> None:
        """Nobody leads any more, and the page ends."""
        self._console.close()
        self._open.close()


def main() -> None:
    """Entry point."""
    run_node(ConsoleNode)
