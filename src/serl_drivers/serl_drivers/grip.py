# SPDX-License-Identifier: Apache-2.0
"""What a gripper that follows positions has met is held, and not pushed: its target stays near where it stands."""

from __future__ import annotations

from typing import Final

_STILL: Final = 5e-4  # [m] by which fingers that stand may differ


class Grip:
    """Looks at targets and openings of one gripper, and says which targets it may have."""

    def __init__(self, squeeze: float, patience: float = 0.3) -> None:
        """Begin with a gripper that holds nothing.

        Args:
            squeeze: how much narrower than what it holds its target may be, more than 1 mm [m].
            patience: time that the fingers have to stand, although they are sent further, to have met something [s].
        """
        self._squeeze, self._patience = squeeze, patience
        self._held: float | None = None
        self._stood: tuple[float, float] | None = None  # opening at which the fingers stand, and since when

    @property
    def holds(self) -> bool:
        """Whether something is between the fingers."""
        return self._held is not None

    def target(self, wanted: float, measured: float, now: float) -> float:
        """The opening that the gripper may be sent to.

        Args:
            wanted: opening that is asked for [m].
            measured: opening that it has [m].
            now: monotonic time [s].
        """
        if self._held is not None and (wanted > self._held or measured < self._held - self._squeeze + _STILL):
            self._held = None  # it is to open, or has lost what it held
        if self._held is None and wanted < measured - self._squeeze:
            if self._stood is None or abs(measured - self._stood[0]) > _STILL:
                self._stood = (measured, now)
            if now - self._stood[1] >= self._patience:
                self._held = measured
        else:
            self._stood = None
        return wanted if self._held is None else max(wanted, self._held - self._squeeze)

    def forget(self) -> None:
        """Hold nothing any more, as where the gripper is led by hand."""
        self._held = self._stood = None
