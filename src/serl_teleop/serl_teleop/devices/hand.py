# SPDX-License-Identifier: Apache-2.0
"""A device that may come and go, and the operator that follows it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from serl_teleop.devices.device import Device, DeviceError
from serl_teleop.devices.operator import Intent, Operator
from serl_teleop.devices.takeover import Phase

_REOPEN_AFTER: Final = 1.0  # [s]


class Hand:
    """Opens a device, asks it, and opens it anew once a second after it was lost."""

    def __init__(self, operator: Operator, make: Callable[[], Device]) -> None:
        """Begin without the device; `make` opens it, or raises DeviceError."""
        self.operator, self._make = operator, make
        self.device: Device | None = None
        self.shown: tuple[Phase, str] | None = None
        """Phase and problem that were told last."""
        self._try_at = 0.0
        self._problem = ""

    def ask(self, gripper: float, now: float) -> Intent:
        """What the person wants by the device; arguments as of `Operator.hear`."""
        try:
            if self.device is None:
                if now < self._try_at:
                    return self.operator.lose(self._problem)
                self.device = self._make()
            state = self.device.read(now)
        except DeviceError as error:
            self.close()
            self._problem, self._try_at = str(error), now + _REOPEN_AFTER
            return self.operator.lose(self._problem)
        return self.operator.hear(state, gripper, now)

    def close(self) -> None:
        """Let go of the device."""
        if self.device is not None:
            self.device.close()
        self.device = None
