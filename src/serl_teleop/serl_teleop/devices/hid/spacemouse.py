# SPDX-License-Identifier: Apache-2.0
"""A SpaceMouse of 3Dconnexion, wired or wireless, read without a driver."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from serl_teleop.devices.device import DeviceError, DeviceState
from serl_teleop.devices.hid.hidraw import DEV, SYSFS, HidrawFile, hid_devices
from serl_teleop.devices.hid.spacemouse_reports import LOGITECH, MODELS, THREEDCONNEXION, Model, Reports, model_of

_SILENCE: Final = 0.5  # [s] for which a cap that is away from its middle may say nothing; it reports every 8 to 16 ms

_RULE: Final = 'KERNEL=="hidraw*", SUBSYSTEM=="hidraw", {match}, TAG+="uaccess"'
UDEV_RULE: Final = "\n".join(
    [
        "# Whoever sits at the machine may read a SpaceMouse. Name it 70-spacemouse.rules: after 73 it has no effect.",
        _RULE.format(match=f'ATTRS{{idVendor}}=="{THREEDCONNEXION:04x}"'),
        _RULE.format(match=f'KERNELS=="0005:{THREEDCONNEXION:04X}:*"'),
        *(
            _RULE.format(match=f'ATTRS{{idVendor}}=="{vendor:04x}", ATTRS{{idProduct}}=="{product:04x}"')
            for vendor, product in MODELS
            if vendor == LOGITECH  # which sells much else
        ),
    ]
)
"""Lets whoever sits at the machine read a SpaceMouse, at a cable, a receiver or by Bluetooth."""

_ADVICE: Final = (
    "write the udev rule that ./serl teleop rule prints to a file in /etc/udev/rules.d, and plug it in again"
)


@dataclass(frozen=True)
class SpaceMouseFile:
    """A SpaceMouse that is plugged in."""

    path: Path
    model: Model


def space_mice(sysfs: Path = SYSFS, dev: Path = DEV) -> list[SpaceMouseFile]:
    """List those that are plugged in."""
    found = ((device.path, model_of(device)) for device in hid_devices(sysfs, dev))
    return [SpaceMouseFile(path, model) for path, model in found if model is not None]


def find_space_mouse(path: str = "", sysfs: Path = SYSFS, dev: Path = DEV) -> SpaceMouseFile:
    """Find the one that is meant.

    Args:
        path: its device file; empty: the first one that is plugged in.
        sysfs: where sysfs is mounted.
        dev: where the device files are.

    Raises:
        DeviceError: there is none, or no such one.
    """
    mice = space_mice(sysfs, dev)
    for mouse in mice:
        if path in ("", str(mouse.path)):
            return mouse
    if not path:
        raise DeviceError("no SpaceMouse is plugged in; ./serl teleop list shows what is")
    there = ", ".join(str(mouse.path) for mouse in mice) or "none"
    raise DeviceError(f"{path} is no SpaceMouse; plugged in: {there}")


class SpaceMouse:
    """Reads one; see `Device`."""

    def __init__(self, file: SpaceMouseFile) -> None:
        """Open it.

        Raises:
            DeviceError: it cannot be read.
        """
        self._mouse = file
        self._file = HidrawFile(file.path, _ADVICE)
        self._reports = Reports(file.model)
        self._moved_at = 0.0

    @property
    def description(self) -> str:
        """Model and device file."""
        return f"{self._mouse.model.name} at {self._mouse.path}"

    def read(self, now: float) -> DeviceState:
        """Return the newest state; see `Device`. One that nobody has touched is at rest.

        Raises:
            DeviceError: it was unplugged, or is out of the reach of its receiver.
        """
        for report in self._file.reports():
            if self._reports.take(report):
                self._moved_at = now
        twist = self._reports.twist
        if any(twist) and now - self._moved_at > _SILENCE:
            raise DeviceError(
                f"{self._mouse.path}: nothing for {_SILENCE:g} s while the cap was away from its middle; is it out of "
                "the reach of its receiver, or its battery empty?"
            )
        return DeviceState(twist, self._reports.buttons(), stamp=now)

    def fileno(self) -> int:
        """Descriptor of its device file; see `Readable`."""
        return self._file.fileno()

    def close(self) -> None:
        """Close it. A second call does nothing."""
        self._file.close()
