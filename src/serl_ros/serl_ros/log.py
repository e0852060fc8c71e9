# SPDX-License-Identifier: Apache-2.0
"""Log lines that cannot raise, cannot flood and carry no control characters, whatever text came from outside."""

import logging
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from rclpy.logging import LoggingSeverity, get_logger
from rclpy.node import Node
from serl_config.text import printable

DEBUG = LoggingSeverity.DEBUG
INFO = LoggingSeverity.INFO
WARN = LoggingSeverity.WARN
ERROR = LoggingSeverity.ERROR
FATAL = LoggingSeverity.FATAL

_LONGEST_LINE = 500  # characters
_MOST_KEYS = 256  # kinds of line whose throttling a node remembers
_SAME_LINE = 10.0  # [s] between two of our libraries that say the same
_OURS = "serl_"

# rclpy ties a place in the code to the first severity that it is called with: each has a place of its own here.
_WRITE: dict[LoggingSeverity, Callable[[Any, str], object]] = {
    DEBUG: lambda logger, text: logger.debug(text),
    INFO: lambda logger, text: logger.info(text),
    WARN: lambda logger, text: logger.warning(text),
    ERROR: lambda logger, text: logger.error(text),
    FATAL: lambda logger, text: logger.fatal(text),
}


class _Throttle:
    """When each kind of line was last written, and how many were left out since."""

    def __init__(self) -> None:
        self._written: dict[object, tuple[float, int]] = {}

    def left_out(self, key: object, period: float) -> int | None:
        """Return how many lines were left out before this one; None when this one is left out too."""
        now = time.monotonic()
        last, count = self._written.pop(key, (-float("inf"), 0))
        due = now - last >= period
        self._written[key] = (now, 0) if due else (last, count + 1)
        if len(self._written) > _MOST_KEYS:
            del self._written[next(iter(self._written))]
        return count if due else None


_throttles: WeakKeyDictionary[Node, _Throttle] = WeakKeyDictionary()


def log(node: Node, level: LoggingSeverity, text: object, *, throttle: float = 0.0, key: object = None) -> bool:
    """Write one line to the node's logger; safe with any text and with any level at any place.

    Args:
        node: whose logger it goes to.
        level: severity, one of this module's.
        text: made printable, and cut where it is long.
        throttle: shortest time between two lines of one `key` [s]; what was left out is counted in the next line.
        key: what counts as the same line; by default the place of the call.

    Returns:
        Whether it was written.
    """
    more = ""
    if throttle > 0:
        if key is None:
            frame = sys._getframe(1)
            key = (frame.f_code, frame.f_lineno)
        count = _throttles.setdefault(node, _Throttle()).left_out(key, throttle)
        if count is None:
            return False
        if count:
            more = f" (and {count} more like it)"
    _WRITE[level](node.get_logger(), printable(text, _LONGEST_LINE) + more)
    return True


class LibrariesLog(logging.Handler):
    """What libraries say by Python's logging becomes lines of the node's log: of ours from INFO on, of others warnings.

    Without it the level is not seen, `/rosout` does not have them, and what is below a warning is said to nobody.

    Attributes:
        logger: of rclpy, that writes them.
    """

    def __init__(self, name: str) -> None:
        """Write to a logger of this name until the node has one."""
        super().__init__(logging.INFO)
        self.logger = get_logger(name)
        self._throttle = _Throttle()

    def install(self) -> None:
        """Take over what all libraries of this process say."""
        for package in {name.partition(".")[0] for name in sys.modules if name.startswith(_OURS)}:
            logging.getLogger(package).setLevel(logging.INFO)
        logging.getLogger().addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record; one of the same text is left out for a while."""
        if record.levelno < logging.WARNING and not record.name.startswith(_OURS):
            return
        try:
            text = record.getMessage()
            count = self._throttle.left_out((record.name, record.lineno, text), _SAME_LINE)
            if count is None:
                return
            if record.exc_info and (error := record.exc_info[1]):
                text = f"{text}: {type(error).__name__}: {error}"
                traceback.print_exception(error)
            _WRITE[_level(record.levelno)](
                self.logger, printable(text, _LONGEST_LINE) + (f" (and {count} more like it)" if count else "")
            )
        except Exception:  # noqa: BLE001 - who says something goes on, whatever becomes of it
            self.handleError(record)


def _level(number: int) -> LoggingSeverity:
    """Severity of a level of Python's logging."""
    return INFO if number < logging.WARNING else WARN if number < logging.ERROR else ERROR
