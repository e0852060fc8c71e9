# SPDX-License-Identifier: Apache-2.0
"""When a person takes over by a device, and when they have let go."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from serl_teleop.devices.device import AXES


class Phase(Enum):
    """What a device is to the arm."""

    ABSENT = "is not there"
    UNREADY = "has to be let go first"
    WATCHING = "is at rest"
    LEADING = "leads"
    HOLDING = "was lost while it led; the arm is held"

    @property
    def leads(self) -> bool:
        """Whether the arm is the person's."""
        return self in (Phase.LEADING, Phase.HOLDING)


@dataclass(frozen=True)
class Timing:
    """How long something has to last, [s] of local time, before it counts."""

    start: float
    """Deflection, before the person leads: a knock at the table, or noise, is no takeover."""
    release: float
    """Rest, before the person has let go: between two motions they still lead."""
    stuck: float
    """One and the same deflection, after which the axis is taken for stuck; infinite: never."""


class Takeover:
    """Book of one device.

    A device must have been at rest before it leads: one that is plugged in with something lying on it moves nothing.
    One that is lost while it leads *holds*: the arm stands still and stays the person's, until the device is back, has
    been at rest and is taken again, or until somebody says that the policy may go on (`consent`).
    """

    def __init__(self, timing: Timing) -> None:
        """Begin without a device."""
        self._timing = timing
        self.phase = Phase.ABSENT
        self._since: float | None = None  # local time at which what would change the phase began
        self.has_rested = False
        """While it holds: whether the device is back and was at rest, so that it can be taken."""

    def update(self, wants: bool, now: float, *, deliberate: bool = False) -> Phase:
        """Take in whether the person wants to lead at the local time `now` [s, monotonic].

        What is `deliberate`, as a button is, needs not last.
        """
        phase, timing = self.phase, self._timing
        if phase is Phase.ABSENT:
            self._enter(Phase.UNREADY)
        elif phase is Phase.WATCHING or (phase is Phase.HOLDING and self.has_rested):
            if self._lasts(wants, 0.0 if deliberate else timing.start, now):
                self._enter(Phase.LEADING)
        elif self._lasts(not wants, timing.release, now):
            if phase is Phase.HOLDING:
                self.has_rested, self._since = True, None
            else:
                self._enter(Phase.WATCHING)
        return self.phase

    def lose(self, *, present: bool = False) -> Phase:
        """The device is gone, or (`present`) nothing that it reports can be believed."""
        if self.phase.leads:
            self._enter(Phase.HOLDING)
        else:
            self._enter(Phase.UNREADY if present else Phase.ABSENT)
        return self.phase

    def consent(self) -> bool:
        """The policy may go on although the device was lost; whether it was held for that."""
        if self.phase is not Phase.HOLDING:
            return False
        self._enter(Phase.ABSENT)
        return True

    def overrule(self) -> None:
        """Somebody of higher priority leads: this device has to be let go before it leads again."""
        if self.phase is not Phase.ABSENT:
            self._enter(Phase.UNREADY)

    def _enter(self, phase: Phase) -> None:
        self.phase, self._since, self.has_rested = phase, None, False

    def _lasts(self, condition: bool, duration: float, now: float) -> bool:
        if not condition:
            self._since = None
            return False
        if self._since is None:
            self._since = now
        return now - self._since >= duration


class StuckAxes:
    """Notices an axis that shows the same deflection for longer than a hand can hold it."""

    def __init__(self, after: float, deadband: float) -> None:
        """Take an axis for stuck that stands beyond `deadband` for `after` [s]."""
        self._after, self._deadband = after, deadband
        self._values = [math.nan] * len(AXES)
        self._since = [0.0] * len(AXES)

    def find(self, twist: Sequence[float], now: float) -> str:
        """Take in what the device shows at `now` [s, monotonic]; returns the name of an axis that is stuck, or none."""
        stuck = ""
        for index, value in enumerate(twist):
            if value != self._values[index] or abs(value) <= self._deadband:
                self._values[index], self._since[index] = value, now
            elif now - self._since[index] >= self._after:
                stuck = AXES[index]
        return stuck
