# SPDX-License-Identifier: Apache-2.0
"""Frames of the Piper's CAN bus (protocol V2), as its manual and the vendor's SDK describe them.

1 Mbit/s, identifiers of 11 bits, 8 bytes each, big-endian. The device leaves them to the SDK; the emulated arm speaks
them itself, so that the SDK is read by something that it has not written.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

JOINTS: Final = 6

STATUS: Final = 0x2A1
JOINT_FEEDBACK: Final = (0x2A5, 0x2A6, 0x2A7)
"""Positions of joints 1 and 2, 3 and 4, 5 and 6."""
GRIPPER_FEEDBACK: Final = 0x2A8
FAST_FEEDBACK: Final = tuple(range(0x251, 0x257))
"""Speed, current and position of each motor."""
SLOW_FEEDBACK: Final = tuple(range(0x261, 0x267))
"""Supply, temperatures and flags of each motor."""
FIRMWARE: Final = 0x4AF

STOP: Final = 0x150
MODE: Final = 0x151
JOINT_TARGETS: Final = (0x155, 0x156, 0x157)
GRIPPER_TARGET: Final = 0x159
TORQUE: Final = 0x471
QUERY: Final = 0x4AF
"""The firmware's text is asked for under the identifier under which it is answered."""

QUICK_STOP: Final = 1
RESUME: Final = 2
"""Ends a stop, in frame `STOP`. It takes the power off: the arm falls."""

STANDBY: Final = 0
CAN_CONTROL: Final = 1
MOVE_JOINTS: Final = 1
POSITION_VELOCITY: Final = 0

DISABLE: Final = 1
ENABLE: Final = 2
ALL_MOTORS: Final = (7, 0xFF)
"""The two numbers that manuals have for all of them; the SDK sends 7."""

ENABLED_FLAG: Final = 1 << 6
"""Bit of the flags of a motor, and of the gripper."""

ERROR_BUS_OFF: Final = 0x040
ERROR_NO_ACKNOWLEDGEMENT: Final = 0x020
"""Classes of Linux's error frames (linux/can/error.h)."""


@dataclass(frozen=True)
class MotorFlags:
    """What a slow frame says of a motor, bit by bit."""

    value: int

    _NAMES = (
        "its supply is low",
        "the motor is too hot",
        "its current is too high",
        "the driver is too hot",
        "a collision",
        "an error of the driver",
        None,  # enabled
        "stalled",
    )

    @property
    def enabled(self) -> bool:
        """Whether it has torque."""
        return bool(self.value & ENABLED_FLAG)

    @property
    def faults(self) -> tuple[str, ...]:
        """What is wrong with it."""
        return tuple(name for bit, name in enumerate(self._NAMES) if name is not None and self.value >> bit & 1)


@dataclass(frozen=True)
class GripperFlags:
    """What a frame of the gripper says, bit by bit."""

    value: int

    _NAMES = (
        "its supply is low",
        "the motor is too hot",
        "its current is too high",
        "the driver is too hot",
        "an error of the sensor",
        "an error of the driver",
    )

    @property
    def enabled(self) -> bool:
        """Whether it has torque."""
        return bool(self.value & ENABLED_FLAG)

    @property
    def faults(self) -> tuple[str, ...]:
        """What is wrong with it."""
        return tuple(name for bit, name in enumerate(self._NAMES) if self.value >> bit & 1)


ARM_STATES: Final = {
    0x00: "normal",
    0x01: "emergency stop",
    0x02: "no solution of the inverse kinematics",
    0x03: "singularity",
    0x04: "target beyond a joint's limit",
    0x05: "a joint does not communicate",
    0x06: "a joint's brake is closed",
    0x07: "collision",
    0x08: "too fast while dragged",
    0x09: "a joint's state is abnormal",
    0x0A: "another fault",
    0x0B: "a teaching record",
    0x0C: "a teaching record runs",
    0x0D: "a teaching record is paused",
    0x0E: "the controller is too hot",
    0x0F: "a resistor is too hot",
}
"""Byte 1 of the status."""

CONTROL_MODES: Final = {
    0: "standby",
    1: "CAN",
    2: "teaching",
    3: "Ethernet",
    4: "Wi-Fi",
    5: "remote control",
    6: "linkage with a master arm",
    7: "offline trajectory",
}
"""Byte 0 of the status: who commands the arm."""


def pair(first: int, second: int) -> bytes:
    """Two numbers of 32 bits."""
    return struct.pack(">ii", first, second)


def unpack_pair(data: bytes) -> tuple[int, int]:
    """What `pair` packed. Raises struct.error for other than 8 bytes."""
    first, second = struct.unpack(">ii", data)
    return first, second


def status(control: int, arm: int, moving: bool, over_limit: int, silent: int) -> bytes:
    """Frame `STATUS`: modes, and the joints that are beyond their limits or silent as bits 0 to 5."""
    return bytes((control, arm, MOVE_JOINTS, 0, int(moving), 0, over_limit, silent))


def gripper(opening: int, effort: int, flags: int) -> bytes:
    """Frame `GRIPPER_FEEDBACK`: counts of its opening and its effort."""
    return struct.pack(">ihBx", opening, effort, flags)


def fast(speed: int, current: int, position: int) -> bytes:
    """A frame of `FAST_FEEDBACK`: counts of speed, current, position."""
    return struct.pack(">hhi", speed, current, position)


def slow(supply: int, driver_celsius: int, motor_celsius: int, flags: int, bus_current: int) -> bytes:
    """A frame of `SLOW_FEEDBACK`: count of the supply, temperatures [deg C], flags, count of the current."""
    return struct.pack(">HhbBH", supply, driver_celsius, motor_celsius, flags, bus_current)


def unpack_gripper_target(data: bytes) -> tuple[int, int, int]:
    """Counts of opening and effort of frame `GRIPPER_TARGET`, and what to do: bit 0 enable, bit 1 clear its error.

    Raises:
        struct.error: other than 8 bytes.
    """
    opening, effort, action, _ = struct.unpack(">iHBB", data)
    return opening, effort, action
