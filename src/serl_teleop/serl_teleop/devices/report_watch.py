# SPDX-License-Identifier: Apache-2.0
"""Notices at once when a device has reported something, instead of looking again and again."""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable, Iterable
from typing import Final, Protocol, runtime_checkable

SHORTEST_PAUSE: Final = 0.004
"""Time [s] after each notice: whatever a device sends, nobody is called more often."""

_READ: Final = select.EPOLLIN | select.EPOLLONESHOT


@runtime_checkable
class Readable(Protocol):
    """A device that says by a file descriptor that there is something to be read."""

    def fileno(self) -> int:
        """Descriptor that epoll can wait for; one that is closed is no longer watched."""


class ReportWatch:
    """Waits for file descriptors in a thread of its own.

    Each is waited for once; who has read what was there calls `watch` again. So a device that nobody reads, or one that
    floods, keeps nobody busy.
    """

    def __init__(self, notice: Callable[[], object]) -> None:
        """Begin with none.

        Args:
            notice: called by the thread after something has come, or a device is gone; it must not block.
        """
        self._notice = notice
        self._epoll = select.epoll()
        self._stop = os.eventfd(0, os.EFD_CLOEXEC)
        self._epoll.register(self._stop, select.EPOLLIN)
        self._thread = threading.Thread(target=self._wait, name="reports", daemon=True)
        self._thread.start()

    def watch(self, descriptors: Iterable[int]) -> None:
        """Wait for these from now on, too; one that has something to be read already is told at once.

        Raises:
            OSError: one of them is closed, or nothing that can be waited for.
        """
        for descriptor in descriptors:
            try:
                self._epoll.modify(descriptor, _READ)
            except FileNotFoundError:  # a new one: the kernel forgets what is closed
                self._epoll.register(descriptor, _READ)

    def close(self) -> None:
        """Wait no longer. A second call does nothing."""
        if self._epoll.closed:
            return
        os.eventfd_write(self._stop, 1)
        self._thread.join()
        self._epoll.close()
        os.close(self._stop)

    def _wait(self) -> None:
        while True:
            ready = [descriptor for descriptor, _ in self._epoll.poll()]
            if self._stop in ready:
                return
            self._notice()
            time.sleep(SHORTEST_PAUSE)
