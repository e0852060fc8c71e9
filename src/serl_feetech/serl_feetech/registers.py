# SPDX-License-Identifier: Apache-2.0
"""Registers of the STS3215 (Feetech: Magnetic Encoder SMS & STS Memory Table)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from serl_feetech.packet import with_sign, without_sign

MODEL: Final = 777
"""Model number of the STS3215."""
TURN: Final = 4096
"""Steps of its encoder in a turn."""


@dataclass(frozen=True, slots=True)
class Register:
    """A number that a servo holds."""

    address: int
    size: int = 1
    """[bytes]"""
    sign_bit: int | None = None
    """Which bit says minus; None: it has no sign."""
    kept: bool = False
    """Whether it outlasts the power; it is written only while `LOCK` is 0."""

    def decode(self, data: bytes) -> int:
        """The number that these bytes mean."""
        value = int.from_bytes(data, "little")
        return value if self.sign_bit is None else with_sign(value, self.sign_bit)

    def encode(self, value: int) -> bytes:
        """The bytes of a number.

        Raises:
            ValueError: it does not fit.
        """
        raw = value if self.sign_bit is None else without_sign(value, self.sign_bit)
        if not 0 <= raw < 1 << 8 * self.size:
            raise ValueError(f"register {self.address}: expected 0 to {(1 << 8 * self.size) - 1}, found {value}")
        return raw.to_bytes(self.size, "little")


FIRMWARE_MAJOR: Final = Register(0, kept=True)
FIRMWARE_MINOR: Final = Register(1, kept=True)
MODEL_NUMBER: Final = Register(3, 2, kept=True)
ID: Final = Register(5, kept=True)
BAUD_RATE: Final = Register(6, kept=True)
"""0: 1,000,000 baud."""
RETURN_DELAY: Final = Register(7, kept=True)
"""[2 us] before an answer."""
MIN_POSITION: Final = Register(9, 2, kept=True)
MAX_POSITION: Final = Register(11, 2, kept=True)
MAX_TEMPERATURE: Final = Register(13, kept=True)
"""[degC] above which it lets go."""
MAX_TORQUE: Final = Register(16, 2, kept=True)
P_GAIN: Final = Register(21, kept=True)
D_GAIN: Final = Register(22, kept=True)
I_GAIN: Final = Register(23, kept=True)
HOMING_OFFSET: Final = Register(31, 2, sign_bit=11, kept=True)
"""What is taken off the encoder's steps to make the position that is told."""
MODE: Final = Register(33, kept=True)
"""0: it goes to positions."""
TORQUE_ENABLE: Final = Register(40)
ACCELERATION: Final = Register(41)
"""[100 steps/s^2]; 0: none is limited."""
GOAL_POSITION: Final = Register(42, 2, sign_bit=15)
GOAL_VELOCITY: Final = Register(46, 2, sign_bit=15)
"""[steps/s] on the way to a goal; 0: as fast as it can."""
TORQUE_LIMIT: Final = Register(48, 2)
"""[0.1 %] of the torque that it has."""
LOCK: Final = Register(55)
"""Whether the kept registers are closed to writing."""
PRESENT_POSITION: Final = Register(56, 2, sign_bit=15)
PRESENT_VELOCITY: Final = Register(58, 2, sign_bit=15)
PRESENT_LOAD: Final = Register(60, 2, sign_bit=10)
"""[0.1 %] of the torque that it has."""
PRESENT_VOLTAGE: Final = Register(62)
"""[0.1 V]"""
PRESENT_TEMPERATURE: Final = Register(63)
"""[degC]"""
MOVING: Final = Register(66)
PRESENT_CURRENT: Final = Register(69, 2, sign_bit=15)
"""[6.5 mA]"""
