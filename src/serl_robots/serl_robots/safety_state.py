# SPDX-License-Identifier: Apache-2.0
"""What `arm/safety` says: who leads, why the arm is stopped, which limits acted."""

from collections.abc import Iterable

from serl_robots.arbitration import Source
from serl_robots.limits import LIMIT_NAMES


class SafetyState:
    """Book of the safety filter and of the arbitration.

    Attributes:
        mode: who leads.
        estop: whether the stop is latched.
        reason: why the arm is stopped or held, or what was refused; empty when nothing is.
        key: short name of `reason`, which changes less often than its text.
        active: names of the limits that acted on the newest command.
        counts: how often each limit has acted.
    """

    def __init__(self) -> None:
        self.mode = Source.IDLE
        self.estop = False
        self.reason = ""
        self.key = ""
        self.active: tuple[str, ...] = ()
        self.counts = dict.fromkeys(LIMIT_NAMES, 0)

    def acted(self, limits: tuple[str, ...]) -> None:
        """These limits acted on the newest command."""
        self.active = limits
        self.count(limits)

    def count(self, limits: Iterable[str]) -> None:
        """These limits acted once more."""
        for name in limits:
            self.counts[name] += 1

    def refuse(self, limit: str, reason: str) -> None:
        """A command was refused, or the arm is held, by `limit`."""
        self.acted((limit,))
        self.explain(limit, reason)

    def explain(self, key: str, reason: str) -> None:
        """Says why; a latched stop keeps its own reason."""
        if not self.estop:
            self.key, self.reason = key, reason

    def clear(self) -> None:
        """Nothing is in the way, unless the stop is latched."""
        self.explain("", "")

    def stop(self) -> None:
        """Latches the stop."""
        self.explain("estop", "e-stop is latched; arm/reset_estop releases it")
        self.estop = True
        self.mode = Source.ESTOP
        self.acted(("estop",))

    def release(self) -> None:
        """Releases the stop."""
        self.estop = False
        self.mode = Source.IDLE
        self.clear()
