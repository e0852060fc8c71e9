# SPDX-License-Identifier: Apache-2.0
"""A SpaceMouse made of a pipe that keeps its packets apart, as hidraw does, and of a folder in the place of /sys."""

from __future__ import annotations

import fcntl
import os
import struct
from contextlib import suppress
from pathlib import Path
from typing import Final

MULTI_AXIS: Final = bytes.fromhex("05010908a1018501")
"""Beginning of the report descriptor of a controller of several axes."""
MOUSE: Final = bytes.fromhex("05010902a1010901")
"""Beginning of the report descriptor of a mouse."""


class PipedSpaceMouse:
    """A device file and what sysfs says of it; writes the reports of a wired or of a wireless model.

    Attributes:
        sysfs: folder in the place of /sys.
        dev: folder in the place of /dev.
        path: the device file.
    """

    def __init__(
        self,
        root: Path,
        number: int = 0,
        identity: str = "0003:0000256F:0000C635",
        name: str = "3Dconnexion SpaceMouse Compact",
        descriptor: bytes = MULTI_AXIS,
    ) -> None:
        """Plug it in.

        Args:
            root: folder below which everything is made.
            number: of the device file, `hidrawN`.
            identity: bus, vendor and product as the kernel writes them.
            name: of the model.
            descriptor: report descriptor.
        """
        self.sysfs, self.dev = root / "sys", root / "dev"
        about = self.sysfs / "class" / "hidraw" / f"hidraw{number}" / "device"
        about.mkdir(parents=True, exist_ok=True)
        (about / "uevent").write_text(f"DRIVER=hid-generic\nHID_ID={identity}\nHID_NAME={name}\n")
        (about / "report_descriptor").write_bytes(descriptor)
        self.dev.mkdir(exist_ok=True)
        self.path = self.dev / f"hidraw{number}"
        self.plug_in()

    def plug_in(self) -> None:
        """Make the device file."""
        self.path.unlink(missing_ok=True)
        os.mkfifo(self.path)
        self._pipe = os.open(self.path, os.O_RDWR | os.O_NONBLOCK)
        fcntl.fcntl(self._pipe, fcntl.F_SETFL, os.O_DIRECT | os.O_NONBLOCK)

    def unplug(self) -> None:
        """Take it away from whoever reads it."""
        os.close(self._pipe)
        self.path.unlink()

    def write(self, report: bytes) -> None:
        """Report; what nobody reads is dropped, as the kernel does."""
        with suppress(BlockingIOError):
            os.write(self._pipe, report)

    def move(self, *counts: int) -> None:
        """Two reports, as of wired models: right, towards, down, and about these."""
        self.write(struct.pack("<B3h", 1, *counts[:3]))
        self.write(struct.pack("<B3h", 2, *counts[3:]))

    def move_wireless(self, *counts: int) -> None:
        """One report with all axes."""
        self.write(struct.pack("<B6h", 1, *counts))

    def press(self, bits: int) -> None:
        """Report which buttons are held."""
        self.write(struct.pack("<BI", 3, bits))
