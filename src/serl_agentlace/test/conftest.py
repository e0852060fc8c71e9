# SPDX-License-Identifier: Apache-2.0
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from serl_agentlace import DataStoreBase, TrainerConfig, TrainerServer

sys.path.insert(0, str(Path(__file__).parent))  # the helpers here


@pytest.fixture
def config() -> TrainerConfig:
    """With ports that were free just now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(2)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        ports = [each.getsockname()[1] for each in sockets]
    return TrainerConfig(*ports, request_types=["send-stats"])


@pytest.fixture
def serve(config: TrainerConfig) -> Iterator[Callable[..., TrainerServer]]:
    """Starts a server with the stores that it is given; all of them end with the test."""
    servers: list[TrainerServer] = []

    def start(stores: dict[str, DataStoreBase], **arguments: object) -> TrainerServer:
        server = TrainerServer(config, **arguments)
        servers.append(server)
        for name, store in stores.items():
            server.register_data_store(name, store)
        server.start(threaded=True)
        return server

    yield start
    for server in servers:
        server.stop()
