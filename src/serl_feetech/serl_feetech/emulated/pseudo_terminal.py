# SPDX-License-Identifier: Apache-2.0
"""An emulated bus at a pseudo-terminal, which any program opens as the serial port of an arm or a gripper."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import threading
import tty
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Generic, Protocol, Self, TypeVar

_READ_AT_ONCE: Final = 4096  # [bytes]
_IDLE: Final = 0.02  # [s] after which the servos move on although nobody asks


class Wire(Protocol):
    """What is at the other end of a serial port."""

    def talk(self, data: bytes) -> bytes:
        """What comes back when these bytes, of which the last may be half a packet, are sent."""

    def advance(self) -> None:
        """Let time pass until now."""


W = TypeVar("W", bound=Wire)


class PseudoTerminal(Generic[W]):
    """Serves an emulated bus in a thread of its own until it is closed, which is as if it were unplugged."""

    def __init__(self, bus: W, link: Path | None = None) -> None:
        """Open it.

        Args:
            bus: that answers.
            link: a path that leads to it, replaced if it is a link already.
        """
        self.bus, self._lock = bus, threading.Lock()
        self._master, self._slave = pty.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self.path = os.ttyname(self._slave)
        """The serial port."""
        self._link = link
        if link is not None:
            link.unlink(missing_ok=True)
            link.symlink_to(self.path)
        self._wake, self._stop = os.pipe()
        self._thread = threading.Thread(target=self._serve, name="emulated port", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def change(self, what: Callable[[W], None]) -> None:
        """Do something to the bus while it is served: plant a fault, take an arm by the hand."""
        with self._lock:
            self.bus.advance()
            what(self.bus)

    def close(self) -> None:
        """Unplug it. A second call does nothing."""
        if not self._thread.is_alive():
            return
        os.write(self._stop, b".")
        self._thread.join()
        if self._link is not None and self._link.is_symlink() and str(self._link.readlink()) == self.path:
            self._link.unlink()
        for file in (self._slave, self._master, self._wake, self._stop):
            os.close(file)

    def _serve(self) -> None:
        poll = select.poll()  # select.select knows no descriptor above 1023
        for file in (self._master, self._wake):
            poll.register(file, select.POLLIN)
        while True:
            ready = [file for file, _ in poll.poll(1e3 * _IDLE)]
            if self._wake in ready:
                return
            data = b""
            if ready:
                with contextlib.suppress(BlockingIOError):  # ready, and nothing there after all
                    data = os.read(self._master, _READ_AT_ONCE)
            with self._lock:
                answer = self.bus.talk(data)
            if answer:
                with contextlib.suppress(BlockingIOError):  # nobody reads: what has no room is lost, as on a wire
                    os.write(self._master, answer)
