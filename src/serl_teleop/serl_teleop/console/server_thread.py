# SPDX-License-Identifier: Apache-2.0
"""Runs a web application beside everything else that a process does."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import web

MOST_CONNECTIONS = 64
"""Connections at a time, of a few browsers; whoever comes beyond is closed, and takes no file from the process."""

_GOODBYE = 1.0  # [s] that open connections are given at the end
_IDLE = 15.0  # [s] after an answer without another request


class _Closed(asyncio.Protocol):
    """What one connection too many meets."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


class _Door:
    """Lets connections in: so many, and only those that soon ask for something."""

    def __init__(self, server: web.Server, asked: set[asyncio.Protocol], patience: float) -> None:
        self._server, self._asked, self._patience = server, asked, patience

    def __call__(self) -> asyncio.Protocol:
        if len(self._server.connections) >= MOST_CONNECTIONS:
            return _Closed()
        connection = self._server()
        asyncio.get_running_loop().call_later(self._patience, self._look, connection)
        return connection

    def _look(self, connection: web.RequestHandler) -> None:
        if connection not in self._asked:
            connection.force_close()
        self._asked &= {*self._server.connections}


@contextmanager
def served(app: web.Application, on: socket.socket, patience: float = 5.0) -> Iterator[None]:
    """Answers requests in a thread of its own, until the end of the block.

    Args:
        app: that answers.
        on: socket that listens.
        patience: time [s] after which a connection that has asked for nothing is closed.
    """
    loop = asyncio.new_event_loop()
    asked: set[asyncio.Protocol] = set()

    async def note(request: web.Request, _response: web.StreamResponse) -> None:
        asked.add(request.protocol)

    app.on_response_prepare.append(note)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=_GOODBYE, keepalive_timeout=_IDLE)

    async def start() -> asyncio.Server:
        await runner.setup()
        assert runner.server is not None, "setup makes it"
        return await loop.create_server(_Door(runner.server, asked, patience), sock=on)

    def run() -> None:
        asyncio.set_event_loop(loop)
        loop.run_forever()
        listening.close()
        loop.run_until_complete(runner.cleanup())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()

    listening = loop.run_until_complete(start())  # here, so that what fails is seen
    thread = threading.Thread(target=run, name="web")
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
