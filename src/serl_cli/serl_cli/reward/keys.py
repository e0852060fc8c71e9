# SPDX-License-Identifier: Apache-2.0
"""Single keys from the terminal, as they are pressed. Works over ssh."""

import os
import select
import sys
import termios
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from serl_launch.errors import CommandError


@contextmanager
def pressed_keys() -> Iterator[Callable[[], str]]:
    """Gives a function that returns the keys pressed since its last call; Ctrl-C works as ever.

    Raises:
        CommandError: this is no terminal.
    """
    if not sys.stdin.isatty():
        raise CommandError("keys need a terminal: stdin is not one; use the topic reward/label instead")
    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    poll = select.poll()  # select.select knows no descriptor above 1023
    poll.register(terminal, select.POLLIN)

    def read() -> str:
        return os.read(terminal, 64).decode(errors="ignore") if poll.poll(0) else ""

    try:
        tty.setcbreak(terminal)
        yield read
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
