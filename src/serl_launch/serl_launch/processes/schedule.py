# SPDX-License-Identifier: Apache-2.0
"""Things to do later."""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(order=True)
class _Appointment:
    at: float
    order: int
    action: Callable[[], None] = field(compare=False)
    owner: object = field(compare=False)


class Schedule:
    """Appointments in the order of their time, those of one time in the order in which they were made."""

    def __init__(self) -> None:
        self._appointments: list[_Appointment] = []
        self._order = itertools.count()

    def __bool__(self) -> bool:
        return bool(self._appointments)

    def add(self, delay: float, action: Callable[[], None], owner: object) -> None:
        """Do `action` after `delay` seconds; `owner` is what `cancel` will call it by."""
        heapq.heappush(self._appointments, _Appointment(time.monotonic() + delay, next(self._order), action, owner))

    def cancel(self, owner: object) -> None:
        """Forget the appointments of one owner."""
        self._appointments = [entry for entry in self._appointments if entry.owner is not owner]
        heapq.heapify(self._appointments)

    def seconds_to_next(self) -> float:
        """Time until the first appointment, 0 if it is due, infinite if there is none."""
        return max(0.0, self._appointments[0].at - time.monotonic()) if self._appointments else float("inf")

    def run_due(self) -> None:
        """Do what is due."""
        while self._appointments and self._appointments[0].at <= time.monotonic():
            heapq.heappop(self._appointments).action()
