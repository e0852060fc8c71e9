# SPDX-License-Identifier: Apache-2.0
"""A device that may come and go, and the operator that follows it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from serl_teleop.devices.device import Device, DeviceError, DeviceState
from serl_teleop.devices.operator import Intent, Operator
from serl_teleop.devices.report_watch import Readable
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
        self.state: DeviceState | None = None
        """What the device reported last; None while it is not there."""
        self.problem = ""
        """Why it cannot lead; empty while it can."""
        self._try_at = 0.0

    def ask(self, gripper: float, now: float) -> Intent:
        """What the person wants by the device; arguments as of `Operator.hear`."""
        try:
            if self.device is None:
                if now < self._try_at:
                    return self.operator.lose(self.problem)
                self.device = self._make()
            self.state = self.device.read(now)
        except DeviceError as error:
            self.close()
            self.problem, self._try_at = str(error), now + _REOPEN_AFTER
            return self.operator.lose(self.problem)
        intent = self.operator.hear(self.state, gripper, now)
        self.problem = intent.problem
        return intent

    @property
    def descriptors(self) -> tuple[int, ...]:
        """File descriptors that say that the device has reported something; empty where it has to be asked."""
        return (self.device.fileno(),) if isinstance(self.device, Readable) else ()

    def close(self) -> None:
        """Let go of the device."""
        if self.device is not None:
            self.device.close()
        self.device = self.state = None
