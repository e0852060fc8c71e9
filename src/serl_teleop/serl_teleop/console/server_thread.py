# SPDX-License-Identifier: Apache-2.0
"""Runs a web application beside everything else that a process does."""

import asyncio
import errno
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import web

_GOODBYE = 1.0  # [s] that open connections are given at the end


class PortError(OSError):
    """Nothing can listen where it should."""


@contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that listens on an address; on any free port with 0.

    Raises:
        PortError: another program does already, or there is no such address here.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as made:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            made.bind((host, port))
        except OSError as error:
            hint = ": another program uses it, choose another port" if error.errno == errno.EADDRINUSE else ""
            raise PortError(f"cannot listen on {host} port {port}{hint} ({error.strerror})") from error
        made.listen()  # before anybody is told of it
        yield made


@contextmanager
def served(app: web.Application, on: socket.socket) -> Iterator[None]:
    """Answers requests in a thread of its own, until the end of the block."""
    loop = asyncio.new_event_loop()
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=_GOODBYE)

    async def start() -> None:
        await runner.setup()
        await web.SockSite(runner, on).start()

    def run() -> None:
        asyncio.set_event_loop(loop)
        loop.run_forever()
        loop.run_until_complete(runner.cleanup())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()

    loop.run_until_complete(start())  # here, so that what fails is seen
    thread = threading.Thread(target=run, name="web")
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
