# SPDX-License-Identifier: Apache-2.0
"""When a source has been silent for too long, in local time."""

from typing import Final

_WINDOW: Final = 0.5  # [s] of local time over which the pace of the state's time is measured
_SLOWEST, _FASTEST = 0.02, 1000.0


class Pace:
    """How fast the time of the joint states goes, compared with local time: 1 on a real arm, anything in simulation."""

    def __init__(self) -> None:
        self._ratio = 1.0
        self._since: tuple[int, float] | None = None

    def hear(self, stamp_ns: int, now: float) -> None:
        """Joint states with this stamp came at `now` [s]."""
        if self._since is None or stamp_ns < self._since[0]:
            self._since = (stamp_ns, now)
            return
        before_ns, before = self._since
        if now - before >= _WINDOW:
            if stamp_ns > before_ns:  # else it stands still, and will go on as before
                self._ratio = min(max((stamp_ns - before_ns) * 1e-9 / (now - before), _SLOWEST), _FASTEST)
            self._since = (stamp_ns, now)

    def restart(self) -> None:
        """The source of the joint states began anew; its pace is taken to be the same."""
        self._since = None

    def local(self, seconds: float) -> float:
        """Local time [s] in which `seconds` of the state's time pass."""
        return seconds / self._ratio


def patience(stale_timeout: float, period: float) -> float:
    """Silence [s] after which a source that speaks once in `period` [s] is taken for dead.

    At least `stale_timeout`. Where that is too short for the period, it is less than the two together, so that a hold
    is commanded within `stale_timeout + period` of the last message.
    """
    return max(stale_timeout, min(1.5 * period, period + 0.5 * stale_timeout))
