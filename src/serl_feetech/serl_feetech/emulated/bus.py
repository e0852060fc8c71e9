# SPDX-License-Identifier: Apache-2.0
"""A bus of emulated servos: instructions in, answers out, garbled where that was planted."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Final

from serl_feetech import packet
from serl_feetech.emulated.servo import EmulatedServo
from serl_feetech.errors import PortError
from serl_feetech.packet import BROADCAST, HEADER, Instruction

_LARGEST_READ: Final = 244  # [bytes]; a servo does not answer to more
_LONGEST_STEP: Final = 0.01  # [s]
_LONGEST_PAUSE: Final = 1.0  # [s] of motion that is made up for; beyond it the servos have long arrived


Mechanics = Callable[[float], None]
"""What moves the servos of a bus for a time [s]: it reads their goals and calls `EmulatedServo.moved`."""


class EmulatedBus:
    """Servos on a wire. Not thread-safe.

    Attributes:
        servos: in the order of the wire; two of one id answer at once, and over each other.
        noise: bytes that come before the next answer; taken once.
        corrupt: how many of the next answers arrive with a wrong bit.
        heard: instructions that were well-formed.
    """

    def __init__(
        self,
        servos: Iterable[EmulatedServo],
        clock: Callable[[], float] = time.monotonic,
        mechanics: Mechanics | None = None,
    ) -> None:
        """Connect servos.

        Args:
            servos: in the order of the wire.
            clock: the time in which they move [s].
            mechanics: what moves them; None: each moves by itself, as if nothing hung on it.
        """
        self.servos, self._clock = list(servos), clock
        self._mechanics = mechanics or self._move_each
        self.noise = b""
        self.corrupt = 0
        self.heard = 0
        self._moved_at, self._rest = clock(), b""

    def servo(self, number: int) -> EmulatedServo:
        """The first servo of an id. Raises KeyError when there is none."""
        for servo in self.servos:
            if servo.id == number:
                return servo
        raise KeyError(f"no servo {number} on the bus, which has {', '.join(str(servo.id) for servo in self.servos)}")

    def advance(self) -> None:
        """Let the servos move until now."""
        now = self._clock()
        passed, self._moved_at = min(now - self._moved_at, _LONGEST_PAUSE), now
        self._mechanics(passed)

    def talk(self, data: bytes) -> bytes:
        """What comes back when these bytes, of which the last may be half an instruction, are sent."""
        self.advance()
        data, answer = self._rest + data, b""
        while True:
            at = data.find(HEADER)
            if at < 0:
                self._rest = data[-1:] if data[-1:] == HEADER[:1] else b""
                return answer
            data = data[at:]
            if len(data) > 2 and data[2] == 0xFF:
                data = data[1:]
                continue
            if len(data) < 4 or len(data) < data[3] + 4:
                self._rest = data
                return answer
            end = data[3] + 4
            if data[3] < 2 or packet.checksum(data[2 : end - 1]) != data[end - 1]:
                data = data[1:]
                continue
            self.heard += 1
            answer += self._obey(data[2], data[4], data[5 : end - 1])
            data = data[end:]

    def _move_each(self, seconds: float) -> None:
        while seconds > 1e-9:
            step = min(seconds, _LONGEST_STEP)
            for servo in self.servos:
                servo.move(step)
            seconds -= step

    def _obey(self, number: int, instruction: int, parameters: bytes) -> bytes:
        if instruction == Instruction.SYNC_READ and number == BROADCAST and len(parameters) >= 2:
            return b"".join(self._read(each, *parameters[:2]) for each in parameters[2:])
        if instruction == Instruction.SYNC_WRITE and number == BROADCAST and len(parameters) >= 2:
            address, size = parameters[:2]
            for at in range(2, len(parameters) - size, size + 1):
                for servo in self._listening(parameters[at]):
                    servo.write(address, parameters[at + 1 : at + 1 + size])
            return b""
        if instruction == Instruction.PING:
            return self._answers(number, lambda _: b"")
        if instruction == Instruction.READ and len(parameters) == 2:
            return self._read(number, *parameters)
        if instruction == Instruction.WRITE and parameters:

            def write(servo: EmulatedServo) -> bytes:
                servo.write(parameters[0], parameters[1:])
                return b""

            if number == BROADCAST:
                for servo in self._listening(number):
                    write(servo)
                return b""
            return self._answers(number, write)
        return b""

    def _read(self, number: int, address: int, size: int) -> bytes:
        return self._answers(number, lambda servo: servo.read(address, size)) if size <= _LARGEST_READ else b""

    def _listening(self, number: int) -> list[EmulatedServo]:
        return [servo for servo in self.servos if number in (BROADCAST, servo.id) and not servo.silent]

    def _answers(self, number: int, answer: Callable[[EmulatedServo], bytes]) -> bytes:
        """What the servos of an id send; two at once pull the wire down together. To all, one after the other."""
        packets = []
        for servo in self._listening(number):
            own = servo.id  # a write may change it; the answer comes from who was asked
            data = answer(servo)
            packets.append(packet.status(own, servo.errors, data))
        if number != BROADCAST and len(packets) > 1:
            packets = [bytes(a & b for a, b in zip(*packets[:2], strict=False))]
        wire = b"".join(packets)
        if wire and self.corrupt:
            self.corrupt -= 1
            wire = wire[:-1] + bytes((wire[-1] ^ 0x10,))
        noise, self.noise = self.noise, b""
        return noise + wire


class EmulatedPort:
    """A port on an emulated bus in the same process; see `serl_feetech.port.Port`."""

    def __init__(self, bus: EmulatedBus) -> None:
        """Plug it in."""
        self.bus, self.unplugged = bus, False
        self._arrived = b""

    @property
    def name(self) -> str:
        """What it is."""
        return "the emulated bus"

    def write(self, data: bytes) -> None:
        """Send bytes; what is answered has arrived at once."""
        self._check()
        self._arrived += self.bus.talk(data)

    def read(self, timeout: float) -> bytes:
        """What has arrived; nothing more comes, however long one waits."""
        self._check()
        data, self._arrived = self._arrived, b""
        return data

    def close(self) -> None:
        """Forget what has arrived."""
        self._arrived = b""

    def _check(self) -> None:
        if self.unplugged:
            raise PortError(f"{self.name}: it is gone; was it unplugged?")
