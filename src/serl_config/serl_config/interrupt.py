# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C that cannot get lost.

Python raises KeyboardInterrupt wherever it happens to be. Where that is a conversion inside of an extension module, as
rclpy's for each message, the module drops it and raises a RuntimeError of its own: whoever goes on after errors would
go on after Ctrl-C, too.
"""

import signal
from types import FrameType

_asked = False


def remember_interrupts() -> None:
    """Let `was_interrupted` know of each SIGINT from now on; KeyboardInterrupt is raised as before.

    Where somebody else handles SIGINT nothing changes. To be called in the main thread.
    """
    global _asked
    _asked = False
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)


def was_interrupted() -> bool:
    """Whether SIGINT has come since `remember_interrupts`."""
    return _asked


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    global _asked
    _asked = True
    raise KeyboardInterrupt
