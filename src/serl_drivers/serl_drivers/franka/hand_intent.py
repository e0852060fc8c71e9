# SPDX-License-Identifier: Apache-2.0
"""What a Franka hand is told once, out of an opening that is asked for anew in each turn.

A hand takes no other width while it moves: a motion is stopped, and begun again. So one that follows a ramp millimetre
by millimetre never gets anywhere, and grasps again and again at what it has met.
"""

from __future__ import annotations

from typing import Final

_STEP: Final = 0.015  # [m] of a ramp from which on it is taken for one that goes all the way
_SETTLED: Final = 0.15  # [s] in which an opening that stays is what is wanted, more than a control period
_STILL: Final = 1e-4  # [m] by which it may differ meanwhile
_NEAR: Final = 2e-3  # [m] from the last one: not worth another motion


class HandIntent:
    """One width for each change of what is wanted.

    An opening that stays is that width, and so is one that jumps. A ramp is one to the end of the way in its direction,
    once it has gone some way; where it ends before, that is told when it has stayed.
    """

    def __init__(self, width: float, widest: float, now: float) -> None:
        """Begin with a hand that is open `width` of `widest` [m] at `now` [s], and not told anything."""
        self._widest = widest
        self._told = self._from = self._seen = width
        self._direction = 0.0
        self._since = now

    def told(self, wanted: float, now: float) -> float | None:
        """A width that the hand is to be told [m]; None: what it was told last holds.

        Args:
            wanted: opening that is asked for [m].
            now: monotonic time [s].
        """
        change = wanted - self._seen
        if abs(change) > _STILL:
            direction = 1.0 if change > 0.0 else -1.0
            if direction != self._direction:
                self._direction, self._from = direction, self._seen
            self._seen, self._since = wanted, now
        if abs(change) >= _STEP or now - self._since >= _SETTLED:
            goal, self._from, self._direction = wanted, wanted, 0.0
        elif abs(wanted - self._from) >= _STEP:
            goal = self._widest if self._direction > 0.0 else 0.0
        else:
            return None
        if abs(goal - self._told) < _NEAR:
            return None
        self._told = goal
        return goal
