# SPDX-License-Identifier: Apache-2.0
"""Which of several browsers leads the arm, and whether it still does.

A person leads while they hold something on the page. The page says so again and again; when it no longer does, because
the tablet sleeps, the page was closed or the network is gone, the hold has ended. It does not come back by itself: late
messages of the same hold move nothing, the person has to let go and press again. Nor has anybody agreed that the policy
goes on: that is said by a finger that is lifted.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

DEAD_MAN = 0.15
"""A hold ends [s] after its last message; the arm is told within another 20 ms."""


@dataclass(frozen=True)
class Jog:
    """What a person wants while they hold."""

    deltas: Mapping[str, float] = field(default_factory=dict)
    """Components of the task's action in [-1, 1], by name; those that are missing stay as they are."""
    gripper: float | None = None
    """-1 closed to +1 open; None: as it is."""


class _Hold(NamedTuple):
    browser: str
    number: int
    jog: Jog
    heard_at: float  # [s]


class Lead:
    """Book of who holds. May be asked from any thread; `now` is a monotonic time [s]."""

    def __init__(self, dead_man: float = DEAD_MAN) -> None:
        """Nobody leads; a hold ends `dead_man` [s] after its last message."""
        self._dead_man = dead_man
        self._lock = threading.Lock()
        self._hold: _Hold | None = None
        self._lost = ""  # browser whose hold was broken off
        self._void: dict[str, tuple[int, str]] = {}  # browser -> newest hold that has ended, and why

    def hold(self, browser: str, number: int, jog: Jog, now: float) -> str:
        """A browser says that it holds.

        Args:
            browser: who says it.
            number: of the hold: one more each time that the person presses.
            jog: what they want.
            now: [s].

        Returns:
            why it does not lead; empty when it does.
        """
        with self._lock:
            self._expire(now)
            newest, reason = self._void.get(browser, (-1, ""))
            if number <= newest:
                return reason
            if self._hold is not None and self._hold.browser != browser:
                return self._end(browser, number, f"{self._hold.browser} leads")
            self._hold, self._lost = _Hold(browser, number, jog, now), ""
            return ""

    def refuse(self, browser: str, number: int, reason: str) -> str:
        """A hold that must not lead has ended before it began, or ends now; returns the reason."""
        with self._lock:
            newest, before = self._void.get(browser, (-1, ""))
            return before if number <= newest else self._end(browser, number, reason)

    def let_go(self, browser: str, number: int) -> None:
        """The person let go."""
        with self._lock:
            self._end(browser, number, "let go")
            if self._lost == browser:
                self._lost = ""

    def leave(self, browser: str) -> None:
        """A browser is gone."""
        with self._lock:
            if self._hold is not None and self._hold.browser == browser:
                self._hold, self._lost = None, browser
            self._void.pop(browser, None)

    def revoke(self, reason: str) -> None:
        """Whoever holds has to press again."""
        with self._lock:
            if self._hold is not None:
                self._end(self._hold.browser, self._hold.number, reason)

    def current(self, now: float) -> tuple[str, Jog] | None:
        """Which browser leads, and what it wants; None: nobody."""
        with self._lock:
            self._expire(now)
            return None if self._hold is None else (self._hold.browser, self._hold.jog)

    @property
    def is_lost(self) -> bool:
        """Whether the newest hold was broken off by silence, and nobody has pressed or let go since."""
        with self._lock:
            return bool(self._lost)

    def _expire(self, now: float) -> None:
        hold = self._hold
        if hold is not None and now - hold.heard_at > self._dead_man:
            self._lost = hold.browser
            self._end(hold.browser, hold.number, f"nothing was heard for {self._dead_man:g} s: let go and press again")

    def _end(self, browser: str, number: int, reason: str) -> str:
        if number > self._void.get(browser, (-1, ""))[0]:
            self._void[browser] = number, reason
        if self._hold is not None and self._hold.browser == browser and self._hold.number <= number:
            self._hold = None
        return reason
