# SPDX-License-Identifier: Apache-2.0
"""Raw HID devices of Linux: found through sysfs, read report by report from /dev/hidrawN."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from serl_config.text import printable

from serl_teleop.devices.device import DeviceError

SYSFS: Final = Path("/sys")
DEV: Final = Path("/dev")

_LARGEST_FILE: Final = 4096  # bytes; a report descriptor has no more
_LARGEST_REPORT: Final = 4096  # bytes, HID_MAX_BUFFER_SIZE of older kernels
_MOST_REPORTS: Final = 1000  # that are read at once
_HID_ID: Final = re.compile(r"[0-9A-F]{4}:([0-9A-F]{8}):([0-9A-F]{8})", re.IGNORECASE)  # bus, vendor, product


@dataclass(frozen=True)
class HidDevice:
    """One interface of a HID device."""

    path: Path
    """Device file."""
    vendor: int
    product: int
    name: str
    descriptor: bytes
    """Report descriptor, as the device gave it to the kernel."""


def hid_devices(sysfs: Path = SYSFS, dev: Path = DEV) -> list[HidDevice]:
    """List the HID devices that are plugged in, by number; what cannot be read of one leaves it out.

    Args:
        sysfs: where sysfs is mounted.
        dev: where the device files are.
    """
    found = []
    folders = (sysfs / "class" / "hidraw").glob("hidraw*")
    for folder in sorted(folders, key=lambda each: int(re.sub(r"\D", "", each.name) or 0)):
        try:
            lines = _read(folder / "device" / "uevent").decode("utf-8", "replace").splitlines()
            descriptor = _read(folder / "device" / "report_descriptor")
        except OSError:  # unplugged meanwhile
            continue
        fields = dict(line.split("=", 1) for line in lines if "=" in line)
        numbers = _HID_ID.fullmatch(fields.get("HID_ID", ""))
        if numbers is not None:
            vendor, product = (int(text, 16) for text in numbers.groups())
            name = printable(fields.get("HID_NAME", ""), 80)
            found.append(HidDevice(dev / folder.name, vendor, product, name, descriptor))
    return found


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_LARGEST_FILE)


class HidrawFile:
    """An open device file, which gives one report for each read."""

    def __init__(self, path: Path, advice: str) -> None:
        """Open it.

        Args:
            path: of the device file.
            advice: what to do where nobody may read it.

        Raises:
            DeviceError: it cannot be opened.
        """
        self._path = path
        try:
            self._file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except PermissionError as error:
            raise DeviceError(f"{path}: no permission to read it; {advice}") from error
        except OSError as error:
            raise DeviceError(f"{path}: {error.strerror}; was it unplugged?") from error

    def reports(self) -> list[bytes]:
        """Everything that was reported since the last call, without waiting.

        Raises:
            DeviceError: the device was unplugged.
        """
        reports: list[bytes] = []
        while len(reports) < _MOST_REPORTS:
            try:
                report = os.read(self._file, _LARGEST_REPORT)
            except BlockingIOError:
                break
            except OSError as error:
                raise DeviceError(f"{self._path}: {error.strerror}; was it unplugged?") from error
            if not report:
                raise DeviceError(f"{self._path}: it has ended; was it unplugged?")
            reports.append(report)
        return reports

    def fileno(self) -> int:
        """Its descriptor; -1 once it is closed."""
        return self._file

    def close(self) -> None:
        """Close it. A second call does nothing."""
        if self._file >= 0:
            os.close(self._file)
        self._file = -1
