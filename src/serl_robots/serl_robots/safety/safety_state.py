# SPDX-License-Identifier: Apache-2.0
"""What `arm/safety` says: who leads, why the arm is stopped, which limits acted."""

from collections.abc import Iterable

from serl_robots.safety.limits import LIMIT_NAMES
from serl_robots.safety.source import Source

_LATCHED = "e-stop is latched; arm/reset_estop releases it"


class SafetyState:
    """Book of the safety filter and of the arbitration.

    Three kinds of reasons stand one above the other: a latched stop, why the arm is held, what was refused last. A
    refusal neither hides nor ends why the arm is held.

    Attributes:
        mode: who leads.
        estop: whether the stop is latched, by somebody or by a fault.
        active: names of the limits that acted on the newest command.
        counts: how often each limit has acted.
    """

    def __init__(self) -> None:
        self.mode = Source.IDLE
        self.estop = False
        self.active: tuple[str, ...] = ()
        self.counts = dict.fromkeys(LIMIT_NAMES, 0)
        self._latched = ("", "")
        self._held = ("", "")
        self._refused = ("", "")

    @property
    def key(self) -> str:
        """Short name of `reason`, which changes less often than its text."""
        return self._latched[0] or self._held[0] or self._refused[0]

    @property
    def reason(self) -> str:
        """Why the arm is stopped or held, and what was refused; empty when nothing is."""
        if self.estop:
            return self._latched[1]
        return "; ".join(text for _, text in (self._held, self._refused) if text)

    def acted(self, limits: tuple[str, ...]) -> None:
        """These limits acted on the newest command."""
        self.active = limits
        self.count(limits)

    def count(self, limits: Iterable[str]) -> None:
        """These limits acted once more."""
        for name in limits:
            self.counts[name] += 1

    def refuse(self, limit: str, reason: str) -> None:
        """A command was refused by `limit`."""
        self.acted((limit,))
        self.explain(limit, reason)

    def explain(self, key: str, reason: str) -> None:
        """Says why something was refused."""
        self._refused = (key, reason)

    def hold(self, key: str, reason: str) -> None:
        """Says why the arm is held, or what it goes on without."""
        self._held = (key, reason)

    def clear(self) -> None:
        """Nothing is in the way, unless the stop is latched."""
        self._held = self._refused = ("", "")

    def stop(self) -> None:
        """Latches the stop."""
        if not self.estop:
            self._latch("estop", _LATCHED)

    def fault(self, reason: str) -> None:
        """Latches the stop because of an error of the controller itself."""
        self._latch("fault", f"{reason}; the arm is stopped, arm/reset_estop releases it")

    def overload(self, limit: str, reason: str) -> None:
        """Latches the stop because the arm pushes far too hard."""
        self._latch(limit, f"{reason}; the arm is stopped, arm/reset_estop releases it")

    def _latch(self, key: str, reason: str) -> None:
        self.estop = True
        self.mode = Source.ESTOP
        self._latched = (key, reason)
        self.acted((key,))

    def release(self) -> None:
        """Releases the stop."""
        self.estop = False
        self.mode = Source.IDLE
        self._latched = ("", "")
        self.clear()
