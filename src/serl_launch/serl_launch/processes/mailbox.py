# SPDX-License-Identifier: Apache-2.0
"""Calls handed to the loop that drives a launch, from other threads and from signal handlers."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections import deque
from collections.abc import Callable


class Mailbox:
    """A queue of calls whose `receiver` becomes readable when one comes in."""

    def __init__(self) -> None:
        self._calls: deque[Callable[[], None]] = deque()
        # Reentrant, because a signal handler may post while its own thread posts.
        self._lock = threading.RLock()
        self._open = True
        self.receiver, self._sender = socket.socketpair()
        for end in (self.receiver, self._sender):
            end.setblocking(False)

    def post(self, call: Callable[[], None]) -> None:
        """Hand over a call; dropped if the mailbox is closed."""
        with self._lock:
            if self._open:
                self._calls.append(call)
                # A full socket wakes the loop just as well.
                with contextlib.suppress(BlockingIOError):
                    self._sender.send(b"\0")

    def run(self) -> None:
        """Make the calls that came in. Only for the loop's own thread."""
        with contextlib.suppress(BlockingIOError):
            self.receiver.recv(4096)
        while self._calls:
            self._calls.popleft()()

    def close(self) -> None:
        """Take nothing more."""
        with self._lock:
            self._open = False
            self.receiver.close()
            self._sender.close()
