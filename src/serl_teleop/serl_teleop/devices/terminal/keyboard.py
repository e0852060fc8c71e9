# SPDX-License-Identifier: Apache-2.0
"""The keyboard of the terminal in which the node runs."""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
import tty
from contextlib import suppress
from typing import Any, Final

from serl_teleop.devices.device import AXES, DeviceError, DeviceState
from serl_teleop.devices.terminal.terminal_keys import DISABLE, ENABLE, TerminalKeys

KEYS: Final = {
    "w": ("forward", 1.0),
    "s": ("forward", -1.0),
    "a": ("left", 1.0),
    "d": ("left", -1.0),
    "r": ("up", 1.0),
    "f": ("up", -1.0),
    "o": ("roll", 1.0),
    "u": ("roll", -1.0),
    "k": ("pitch", 1.0),
    "i": ("pitch", -1.0),
    "j": ("yaw", 1.0),
    "l": ("yaw", -1.0),
}
"""Axis and sign of each key that moves something; two that are against each other cancel out."""

_MOST_READS: Final = 16  # of 1024 bytes, at each look


class Keyboard:
    """Reads the keys of a terminal; see `Device`. All other keys are buttons, by their names."""

    def __init__(self, terminal: int | None = None) -> None:
        """Take over a terminal, until `close`.

        Args:
            terminal: its file descriptor; None: standard input.

        Raises:
            DeviceError: that is no terminal.
        """
        self._terminal = _standard_input() if terminal is None else terminal
        if not os.isatty(self._terminal):
            raise DeviceError("keyboard: standard input is no terminal; use ./serl teleop lead keyboard in one")
        self._keys = TerminalKeys()
        self._poll = select.poll()  # select.select knows no descriptor above 1023
        self._poll.register(self._terminal, select.POLLIN)
        self._before: list[Any] | None = None
        try:
            self._before = termios.tcgetattr(self._terminal)
            tty.setcbreak(self._terminal)
            mode = termios.tcgetattr(self._terminal)
            mode[0] &= ~termios.IXON  # Ctrl-S would stop the output, and with its next line the node, for ever
            termios.tcsetattr(self._terminal, termios.TCSANOW, mode)
            os.write(self._terminal, ENABLE)
        except (OSError, termios.error) as error:
            self.close()
            raise DeviceError(f"keyboard: {error.args[-1]}; was the terminal closed?") from error

    @property
    def description(self) -> str:
        """Whether releases of keys are reported."""
        how = "reports releases" if self._keys.reports_releases else "repeats one key at a time"
        return f"keyboard of the terminal, which {how}"

    def read(self, now: float) -> DeviceState:
        """Return the newest state; see `Device`.

        Raises:
            DeviceError: the terminal was closed.
        """
        for _ in range(_MOST_READS):  # whoever types faster than this is no hand
            try:
                if not self._poll.poll(0):
                    break
                data = os.read(self._terminal, 1024)
            except OSError as error:
                raise DeviceError(f"keyboard: {error.strerror}; was the terminal closed?") from error
            if not data:
                raise DeviceError("keyboard: it has ended; was the terminal closed?")
            self._keys.take(data, now)
        if self._keys.interrupted:
            self._keys.interrupted = False
            signal.raise_signal(signal.SIGINT)
        held = self._keys.held(now)
        twist = dict.fromkeys(AXES, 0.0)
        for name in held & KEYS.keys():
            axis, sign = KEYS[name]
            twist[axis] += sign
        x, y, z, roll, pitch, yaw = twist.values()
        return DeviceState((x, y, z, roll, pitch, yaw), held - KEYS.keys(), stamp=now)

    def fileno(self) -> int:
        """Descriptor of the terminal; see `Readable`."""
        return self._terminal

    def close(self) -> None:
        """Leave the terminal as it was. A second call does nothing."""
        if self._before is None:
            return
        with suppress(OSError, termios.error):  # it may be gone
            os.write(self._terminal, DISABLE)
            termios.tcsetattr(self._terminal, termios.TCSADRAIN, self._before)
        self._before = None


def _standard_input() -> int:
    """File descriptor of standard input, -1 where there is none: a process may begin, or go on, without."""
    try:
        return -1 if sys.stdin is None else sys.stdin.fileno()
    except ValueError:  # closed, or no file
        return -1
