# SPDX-License-Identifier: Apache-2.0
"""Notices an arm that pushes too hard, by what is measured at its tool and in its joints."""

from collections.abc import Iterator
from typing import Final, NamedTuple

from serl_robots.safety.limits import SafetyLimits


class Loads(NamedTuple):
    """What an arm pushes with; None where nobody measures it."""

    force: float | None = None  # at the tool [N]
    torque: float | None = None  # at the tool [Nm]
    efforts: tuple[float, ...] | None = None  # of the arm joints (n,) [Nm]


NO_LOADS: Final = Loads()


class Overload(NamedTuple):
    """A load over its limit."""

    limit: str  # force, torque or effort
    text: str
    stops: bool  # whether it is so far over it that the arm is stopped


class OverloadMonitor:
    """Says when an arm has to give way, and when it has to stop."""

    def __init__(self, limits: SafetyLimits) -> None:
        """Watch what `limits` ask for."""
        self._limits = limits
        self._over = 0.0  # [s] that a load has been over its limit

    def missing(self, loads: Loads) -> str | None:
        """What a limit asks for and nobody measures, in words."""
        limits = self._limits
        if (limits.max_force > 0.0 and loads.force is None) or (limits.max_torque > 0.0 and loads.torque is None):
            return "no fresh wrench, which limits.max_force or limits.max_torque asks for"
        if limits.max_effort and loads.efforts is None:
            return "no efforts in joint_states, which limits.max_effort asks for"
        return None

    def update(self, loads: Loads, elapsed: float) -> Overload | None:
        """Call with everything newly measured, `elapsed` [s] after the one before: the worst overload that counts."""
        limits = self._limits
        share, limit, text = max(self._shares(loads), default=(0.0, "", ""))
        self._over = self._over + elapsed if share > 1.0 else 0.0
        stops = share >= limits.overload_stop
        if share > 1.0 and (stops or self._over >= limits.overload_time):
            return Overload(limit, text, stops)
        return None

    def _shares(self, loads: Loads) -> Iterator[tuple[float, str, str]]:
        """Each load that is watched over its limit, with the limit's name and words."""
        limits = self._limits
        if limits.max_force > 0.0 and loads.force is not None:
            text = f"force {loads.force:.1f} N at the tool, at most {limits.max_force:g} N"
            yield loads.force / limits.max_force, "force", text
        if limits.max_torque > 0.0 and loads.torque is not None:
            text = f"torque {loads.torque:.1f} Nm at the tool, at most {limits.max_torque:g} Nm"
            yield loads.torque / limits.max_torque, "torque", text
        for number, (effort, most) in enumerate(zip(loads.efforts or (), limits.max_effort, strict=False), start=1):
            yield abs(effort) / most, "effort", f"effort {effort:.1f} Nm of arm joint {number}, at most {most:g} Nm"
