# SPDX-License-Identifier: Apache-2.0
"""What lets the link go on: work that is repeated whatever it raises, and a queue that nothing can block for ever."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

MOST_TRIES = 3
"""How often something is handed over that the other side refuses for what it is."""

MOST_LATER = 120
"""How often something is handed over that the other side cannot take now: a minute, as half a second is between two
tries."""


def repeat(step: Callable[[], object], stopping: threading.Event, tell: Callable[[Exception], object]) -> None:
    """Do something again and again until `stopping` is set.

    Args:
        step: does it once.
        stopping: ends it.
        tell: told of what `step` raises; half a second later it goes on.
    """
    while not stopping.is_set():
        try:
            step()
        except Exception as error:  # noqa: BLE001 - a thread that ends without a word is worse than any error
            tell(error)
            stopping.wait(0.5)


def guarded(serve: Callable[[Any], object], tell: Callable[[Exception], object]) -> Callable[[Any], None]:
    """`serve` as a callback that raises nothing; `tell` is told of what it would have raised."""

    def call(given: Any) -> None:
        try:
            serve(given)
        except Exception as error:  # noqa: BLE001 - who calls it, Zenoh or the executor, would end or say nothing
            tell(error)

    return call


class Owed:
    """What is to be handed over, in order; used by several threads.

    Attributes:
        lost: how many were given up, because too many waited or because they were refused again and again.
    """

    def __init__(self, most: int) -> None:
        """Keep at most `most`; of more, the oldest ones are given up."""
        self.lost = 0
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._most, self._count, self._tries = most, 0, 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def add(self, data: bytes) -> bool:
        """Add the next one; False where the oldest one was given up for it."""
        with self._lock:
            self._waiting.append((self._count, data))
            self._count += 1
            if len(self._waiting) <= self._most:
                return True
            self._give_up()
            return False

    def first(self) -> tuple[int, bytes] | None:
        """The oldest one and its number, counted from 0; None where nothing waits."""
        with self._lock:
            return self._waiting[0] if self._waiting else None

    def taken(self, number: int) -> None:
        """It was handed over."""
        with self._lock:
            if self._is_first(number):
                self._waiting.popleft()
                self._tries = 0

    def refused(self, number: int, most: int = MOST_TRIES) -> bool:
        """It was refused; True where it is given up, after `most` tries."""
        with self._lock:
            if not self._is_first(number):
                return False
            self._tries += 1
            if self._tries < most:
                return False
            self._give_up()
            return True

    def _is_first(self, number: int) -> bool:
        return bool(self._waiting) and self._waiting[0][0] == number

    def _give_up(self) -> None:
        self._waiting.popleft()
        self._tries = 0
        self.lost += 1
