# SPDX-License-Identifier: Apache-2.0
"""Which SpaceMouse models there are, and what their reports mean.

A report begins with its number; numbers of two bytes are signed, the low byte first.

- 1, of 7 bytes: translation x y z. The wireless models put all six axes into one, of 13 bytes.
- 2, of 7 bytes: rotation about x y z.
- 3: a bit for each button. The Enterprise has more of them than these, in reports that are passed over here.

All others, such as 23 with the battery, say nothing about a hand. The axes are x to the right, y towards the person, z
down, and about 350 is full deflection; `DeviceState` has them as REP 103 does.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from serl_teleop.devices.hid.hidraw import HidDevice

FULL_DEFLECTION: Final = 350.0
_TRANSLATION, _ROTATION, _BUTTONS = 1, 2, 3
_THREE_AXES, _SIX_AXES = struct.Struct("<3h"), struct.Struct("<6h")
_MULTI_AXIS_CONTROLLER: Final = bytes((0x05, 0x01, 0x09, 0x08))  # usage page generic desktop, usage 8

LOGITECH: Final = 0x046D  # to which 3Dconnexion belonged
THREEDCONNEXION: Final = 0x256F


@dataclass(frozen=True)
class Model:
    """A model of 3Dconnexion."""

    name: str
    two_buttons: bool = False
    """Whether its only buttons are left and right of the cap."""


MODELS: Final = MappingProxyType(
    {
        (LOGITECH, 0xC603): Model("SpaceMouse Plus XT"),
        (LOGITECH, 0xC623): Model("SpaceTraveler"),
        (LOGITECH, 0xC625): Model("SpacePilot"),
        (LOGITECH, 0xC626): Model("SpaceNavigator", two_buttons=True),
        (LOGITECH, 0xC627): Model("SpaceExplorer"),
        (LOGITECH, 0xC628): Model("SpaceNavigator for Notebooks", two_buttons=True),
        (LOGITECH, 0xC629): Model("SpacePilot Pro"),
        (LOGITECH, 0xC62B): Model("SpaceMouse Pro"),
        (THREEDCONNEXION, 0xC62E): Model("SpaceMouse Wireless, at its cable", two_buttons=True),
        (THREEDCONNEXION, 0xC62F): Model("SpaceMouse Wireless, by its receiver", two_buttons=True),
        (THREEDCONNEXION, 0xC631): Model("SpaceMouse Pro Wireless, at its cable"),
        (THREEDCONNEXION, 0xC632): Model("SpaceMouse Pro Wireless, by its receiver"),
        (THREEDCONNEXION, 0xC633): Model("SpaceMouse Enterprise"),
        (THREEDCONNEXION, 0xC635): Model("SpaceMouse Compact", two_buttons=True),
        (THREEDCONNEXION, 0xC638): Model("SpaceMouse Pro Wireless, by Bluetooth"),
        (THREEDCONNEXION, 0xC63A): Model("SpaceMouse Wireless, by Bluetooth", two_buttons=True),
        (THREEDCONNEXION, 0xC652): Model("Universal Receiver"),
    }
)
"""All models that are known, by vendor and product."""


def model_of(device: HidDevice) -> Model | None:
    """Which model a HID device is, None for what is no SpaceMouse.

    What 3Dconnexion sells tomorrow is taken for one where it says that it is a controller of several axes.
    """
    known = MODELS.get((device.vendor, device.product))
    multi_axis = _MULTI_AXIS_CONTROLLER in device.descriptor
    if known is not None:  # a receiver has interfaces of a mouse and a keyboard, too
        return known if multi_axis or not device.descriptor else None
    return Model(device.name) if device.vendor == THREEDCONNEXION and multi_axis else None


class Reports:
    """What the reports of one device add up to."""

    def __init__(self, model: Model) -> None:
        """Begin at rest."""
        self._model = model
        self._right, self._towards, self._down = 0, 0, 0
        self._about_right, self._about_towards, self._about_down = 0, 0, 0
        self._bits = 0
        self._pressed = 0  # bits of buttons since they were asked for

    def take(self, report: bytes) -> bool:
        """Take in a report; returns whether it is about axes. One of an unknown number or length is passed over."""
        number, body = report[0], report[1:]
        if number == _TRANSLATION and len(body) >= _SIX_AXES.size:
            self._set_translation(*_SIX_AXES.unpack_from(body)[:3])
            self._set_rotation(*_SIX_AXES.unpack_from(body)[3:])
        elif number == _TRANSLATION and len(body) >= _THREE_AXES.size:
            self._set_translation(*_THREE_AXES.unpack_from(body))
        elif number == _ROTATION and len(body) >= _THREE_AXES.size:
            self._set_rotation(*_THREE_AXES.unpack_from(body))
        elif number == _BUTTONS:
            self._bits = int.from_bytes(body[:4], "little")
            self._pressed |= self._bits
            return False
        else:
            return False
        return True

    def _set_translation(self, right: int, towards: int, down: int) -> None:
        self._right, self._towards, self._down = right, towards, down

    def _set_rotation(self, about_right: int, about_towards: int, about_down: int) -> None:
        self._about_right, self._about_towards, self._about_down = about_right, about_towards, about_down

    @property
    def twist(self) -> tuple[float, float, float, float, float, float]:
        """Axes as of `DeviceState.twist`."""
        return (
            _share(-self._towards),
            _share(-self._right),
            _share(-self._down),
            _share(-self._about_towards),
            _share(-self._about_right),
            _share(-self._about_down),
        )

    def buttons(self) -> frozenset[str]:
        """Names of the buttons that are held, or were since the last call: `left` and `right`, or their numbers."""
        bits, self._pressed = self._pressed | self._bits, self._bits
        names = ("left", "right") if self._model.two_buttons else tuple(map(str, range(32)))
        return frozenset(name for index, name in enumerate(names) if bits >> index & 1)


def _share(counts: int) -> float:
    return min(max(counts / FULL_DEFLECTION, -1.0), 1.0)
