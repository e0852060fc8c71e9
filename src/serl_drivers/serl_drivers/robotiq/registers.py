# SPDX-License-Identifier: Apache-2.0
"""Registers of the 2F-85 and the 2F-140, by their manual: what is asked for, and what they say.

rACT, rGTO, ... and gACT, gGTO, ... are the manual's names of what is requested and what the gripper tells.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

DEVICE: Final = 9
BAUD: Final = 115_200
REQUEST: Final = 0x03E8
"""First of the three registers that are written."""
STATUS: Final = 0x07D0
"""First of the three that are read."""
REGISTERS: Final = 3
CURRENT: Final = 0.01
"""Unit of gCU [A]."""

MOVING, OPENING_STOPPED, CLOSING_STOPPED, ARRIVED = range(4)
"""gOBJ: the fingers move; met something as they opened; met something as they closed; are where they were sent."""
RESET, ACTIVATING, ACTIVATED = 0, 1, 3
"""gSTA."""
SILENCE_FAULT: Final = 0x09
"""gFLT after a second without a request, which ends with the next one."""
FAULTS: Final = {
    0x05: "it is being activated, and takes no request until that is done; wait",
    0x07: "it is not activated; call driver/activate",
    0x08: "it is too hot; let it cool down",
    SILENCE_FAULT: "nobody has spoken to it for a second",
    0x0A: "its supply is below 21.6 V; look at the power supply",
    0x0B: "it is being released automatically; wait, then call driver/activate",
    0x0C: "it has an internal fault; switch it off and on, and call driver/activate",
    0x0D: "it could not be activated; look what blocks the fingers, then call driver/activate",
    0x0E: "too much current; look what blocks the fingers, then call driver/activate",
    0x0F: "it has been released automatically; call driver/activate",
}
"""What gFLT means, and what to do."""

_GO: Final = 0x09  # rACT and rGTO
_STAY: Final = 0x01  # rACT


@dataclass(frozen=True)
class Status:
    """What the gripper says of itself."""

    activated: bool
    """gACT: activation was asked for since it has been switched on."""
    goes: bool
    """gGTO: it goes to where it was sent."""
    stage: int
    """gSTA."""
    met: int
    """gOBJ."""
    fault: int
    """gFLT."""
    request: int
    """gPR: position that was asked for [count], from 0, open."""
    position: int
    """gPO [count]."""
    current: float
    """gCU [A]."""


def decode_status(data: bytes) -> Status:
    """Status in the six bytes of its registers."""
    first, _, fault, request, position, current = data
    return Status(
        activated=bool(first & 0x01),
        goes=bool(first & 0x08),
        stage=first >> 4 & 0x03,
        met=first >> 6,
        fault=fault & 0x0F,
        request=request,
        position=position,
        current=current * CURRENT,
    )


def go_to(position: int, speed: int, force: int) -> bytes:
    """Request to go to a position rPR at speed rSP and force rFR, each 0 to 255.

    Raises:
        ValueError: one of them is not.
    """
    return bytes((_GO, 0, 0, position, speed, force))


CLEAR: Final = bytes(6)
"""Request to forget the activation, and any fault with it."""
STAY: Final = bytes((_STAY, 0, 0, 0, 0, 0))
"""Request to be activated, which moves the fingers where they were not activated before; then, to stop where it is."""


@dataclass(frozen=True)
class Scale:
    """Which count is which opening: on a straight line between the two ends."""

    open_count: int
    """Where the fingers are as far apart as they go."""
    closed_count: int
    """Where they touch."""
    opening: float
    """Widest opening [m], at `open_count`."""

    def width(self, count: int) -> float:
        """Opening [m] at a count, no less than 0."""
        share = (self.closed_count - count) / (self.closed_count - self.open_count)
        return self.opening * min(max(share, 0.0), 1.0)

    def count(self, width: float) -> int:
        """Count whose opening is nearest to `width` [m]; fully closed asks for all that there is."""
        share = min(max(width / self.opening, 0.0), 1.0)
        if share == 0.0:
            return 255
        if share == 1.0:
            return 0
        return round(self.closed_count - share * (self.closed_count - self.open_count))
