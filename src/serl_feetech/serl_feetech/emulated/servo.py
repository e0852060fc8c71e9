# SPDX-License-Identifier: Apache-2.0
"""An STS3215 without gears: its registers, how it moves, and what it says is wrong with it."""

from __future__ import annotations

from typing import Final

from serl_feetech import registers
from serl_feetech.packet import LAST_ID, Errors, without_sign
from serl_feetech.registers import TURN, Register

_REGISTERS: Final = 86  # [bytes]
_FASTEST: Final = 3400.0  # [steps/s] without load: 50 turns a minute
_RESPONSE: Final = 20.0  # [1/s] of speed for each step of error: a time constant of 50 ms
_STIFFNESS: Final = 2.0  # [0.1 % of the torque] for each step of error
_STALL_CURRENT: Final = 2.7  # [A] at all of the torque
_CURRENT_UNIT: Final = 0.0065  # [A]
_AMBIENT: Final = 25.0  # [degC]
_WARMING: Final = 2e-6  # [degC/s] for each [0.1 %]^2 of load
_COOLING: Final = 0.02  # [1/s]
_DEFAULTS: Final = {
    registers.FIRMWARE_MAJOR: 3,
    registers.FIRMWARE_MINOR: 10,
    registers.MODEL_NUMBER: registers.MODEL,
    registers.MAX_POSITION: TURN - 1,
    registers.MAX_TEMPERATURE: 70,
    registers.MAX_TORQUE: 1000,
    registers.P_GAIN: 32,
    registers.D_GAIN: 32,
    registers.TORQUE_LIMIT: 1000,
    registers.PRESENT_VOLTAGE: 74,
    registers.LOCK: 1,
}
_KEPT_BYTES: Final = 40  # the first ones, which outlast the power


class EmulatedServo:
    """One servo.

    Attributes:
        hand: where a person holds it [steps of the encoder], stronger than it is; None: nobody does.
        hand_strength: torque of that hand [0.1 % of the servo's]: one with more of its own stays where it is.
        silent: whether it has stopped answering.
        temperature: [degC].
    """

    def __init__(self, servo: int, position: float = TURN / 2) -> None:
        """Begin at rest, with torque off, at `position` [steps of the encoder]."""
        self._bytes = bytearray(_REGISTERS)
        for register, value in _DEFAULTS.items():
            self._put(register, value)
        self._put(registers.ID, servo)
        self.position, self.velocity = float(position), 0.0
        self.hand: float | None = None
        self.hand_strength = 1000.0
        self.silent = False
        self.temperature, self.load = _AMBIENT, 0.0
        self._overheated = False
        self._put(registers.GOAL_POSITION, round(position))

    @property
    def id(self) -> int:
        """Its id on the bus."""
        return self._bytes[registers.ID.address]

    @property
    def offset(self) -> int:
        """What it takes off the encoder's steps."""
        return self.value(registers.HOMING_OFFSET)

    @property
    def torque_enabled(self) -> bool:
        """Whether it holds itself."""
        return bool(self._bytes[registers.TORQUE_ENABLE.address])

    @property
    def errors(self) -> Errors:
        """What it says is wrong with it."""
        return Errors.HEAT if self._overheated else Errors(0)

    def value(self, register: Register) -> int:
        """What a register holds that is not measured."""
        return register.decode(bytes(self._bytes[register.address : register.address + register.size]))

    def read(self, address: int, size: int) -> bytes:
        """Bytes of the registers from an address on; behind the last one there are zeros."""
        self._show(registers.PRESENT_POSITION, round(self.position) - self.offset)
        self._show(registers.PRESENT_VELOCITY, round(self.velocity))
        self._show(registers.PRESENT_LOAD, round(self.load))
        self._show(registers.PRESENT_CURRENT, round(1e-3 * abs(self.load) * _STALL_CURRENT / _CURRENT_UNIT))
        self._put(registers.PRESENT_TEMPERATURE, round(min(max(self.temperature, 0.0), 255.0)))
        self._put(registers.MOVING, int(abs(self.velocity) > 1.0))
        return bytes(self._bytes[address : address + size]).ljust(size, b"\0")

    def write(self, address: int, data: bytes) -> None:
        """Write bytes; to registers that are kept only while they are not locked."""
        locked = bool(self._bytes[registers.LOCK.address])
        for index, byte in enumerate(data, address):
            impossible = index == registers.ID.address and byte > LAST_ID
            if index < _REGISTERS and not impossible and not (locked and index < _KEPT_BYTES):
                self._bytes[index] = byte
        if self._overheated:
            self._put(registers.TORQUE_ENABLE, 0)

    def cool_down(self) -> None:
        """Let it be as after a long rest: no longer hot, and without an error."""
        self.temperature, self._overheated = _AMBIENT, False

    @property
    def goal(self) -> float:
        """Where it goes [steps of the encoder]."""
        return float(self.value(registers.GOAL_POSITION) + self.offset)

    @property
    def limit(self) -> float:
        """Torque that it may use [0.1 % of all]."""
        return float(min(self.value(registers.TORQUE_LIMIT), self.value(registers.MAX_TORQUE)))

    def move(self, seconds: float) -> None:
        """Let time pass: at most 20 ms at once, or a step of the servo is longer than its response."""
        limit = self.limit
        error = self.goal - self.position if self.torque_enabled else 0.0
        load = min(max(_STIFFNESS * error, -limit), limit)
        target = self.position
        if self.torque_enabled:
            fastest = float(self.value(registers.GOAL_VELOCITY) or _FASTEST)
            speed = min(max(_RESPONSE * error, -fastest), fastest) * min(1.0, limit / 100.0)
            target = self.position + speed * seconds
        if self.hand is not None and self.hand_strength > abs(load):
            target = self.hand
        self.moved(target, (target - self.position) / seconds, load, seconds)

    def moved(self, position: float, velocity: float, load: float, seconds: float) -> None:
        """Take over what has become of it, in whatever moves it.

        Args:
            position: [steps of the encoder].
            velocity: [steps/s].
            load: its torque [0.1 % of all].
            seconds: that have passed [s].
        """
        self.position, self.velocity, self.load = position, velocity, load
        self.temperature += seconds * (_WARMING * self.load**2 - _COOLING * (self.temperature - _AMBIENT))
        if self.temperature > self._bytes[registers.MAX_TEMPERATURE.address]:
            self._overheated = True
            self._put(registers.TORQUE_ENABLE, 0)

    def _put(self, register: Register, value: int) -> None:
        self._bytes[register.address : register.address + register.size] = register.encode(value)

    def _show(self, register: Register, value: int) -> None:
        most = (1 << (register.sign_bit or 0)) - 1
        raw = without_sign(min(max(value, -most), most), register.sign_bit or 0)
        self._bytes[register.address : register.address + register.size] = raw.to_bytes(register.size, "little")
