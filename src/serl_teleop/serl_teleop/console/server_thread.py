# SPDX-License-Identifier: Apache-2.0
"""Runs a web application beside everything else that a process does."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import web

_GOODBYE = 1.0  # [s] that open connections are given at the end


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
