# SPDX-License-Identifier: Apache-2.0
"""Packets of Feetech's serial bus, protocol 0, which is that of Dynamixel 1.0 (Feetech: Communication Protocol Manual).

An instruction is `FF FF id length instruction parameters checksum`, a status `FF FF id length errors parameters
checksum`; length counts the parameters and two more, the checksum is the inverted sum of everything from the id on.
Words are little-endian; a number with a sign is its amount with one bit for the sign.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Final

HEADER: Final = b"\xff\xff"
BROADCAST: Final = 0xFE
"""Id of all servos. None answers, but to a ping."""
LAST_ID: Final = 0xFD
LONGEST: Final = 250
"""[bytes] of a packet."""
_SHORTEST: Final = 6  # [bytes] of a packet without parameters


class Instruction(IntEnum):
    """What a servo is told to do."""

    PING = 0x01
    READ = 0x02
    WRITE = 0x03
    SYNC_READ = 0x82
    SYNC_WRITE = 0x83


class Errors(IntFlag):
    """What a servo says is wrong with it, in each of its answers."""

    VOLTAGE = 1
    ANGLE = 2
    HEAT = 4
    CURRENT = 8
    OVERLOAD = 32


@dataclass(frozen=True, slots=True)
class Status:
    """Answer of a servo."""

    servo: int
    errors: Errors
    parameters: bytes


def checksum(body: bytes) -> int:
    """Checksum of a packet's bytes between header and checksum."""
    return ~sum(body) & 0xFF


def instruction(servo: int, code: int, parameters: bytes = b"") -> bytes:
    """A packet to a servo.

    Raises:
        ValueError: no id of a servo, or more parameters than a packet holds.
    """
    if not 0 <= servo <= BROADCAST:
        raise ValueError(f"expected the id of a servo, 0 to {LAST_ID}, or {BROADCAST} for all, found {servo}")
    if len(parameters) + _SHORTEST > LONGEST:
        raise ValueError(f"expected at most {LONGEST - _SHORTEST} parameters, found {len(parameters)}")
    body = bytes((servo, len(parameters) + 2, code)) + parameters
    return HEADER + body + bytes((checksum(body),))


def status(servo: int, errors: int = 0, parameters: bytes = b"") -> bytes:
    """An answer of a servo, as a servo sends it."""
    return instruction(servo, errors, parameters)


def sync_read(address: int, size: int, servos: Sequence[int]) -> bytes:
    """Asks several servos for the same registers; each answers in this order."""
    return instruction(BROADCAST, Instruction.SYNC_READ, bytes((address, size, *servos)))


def sync_write(address: int, size: int, values: Mapping[int, bytes]) -> bytes:
    """Writes the same registers of several servos, by id, at the same moment; none answers."""
    parameters = b"".join(bytes((servo,)) + data for servo, data in values.items())
    return instruction(BROADCAST, Instruction.SYNC_WRITE, bytes((address, size)) + parameters)


class StatusReader:
    """Finds answers in a stream of bytes, whatever lies between them.

    It knows how many parameters the answers have. So a header in garbage whose length is another one costs nothing and
    is not waited for; and after a packet with a wrong checksum, the search goes on one byte behind its beginning.
    """

    def __init__(self, size: int) -> None:
        """Expect answers with `size` parameters, or, of a servo that reports an error, with none."""
        self._length, self._rest = size + 2, b""
        self.skipped = 0
        """Bytes that belonged to no answer."""

    def feed(self, data: bytes) -> list[Status]:
        """Take in what has arrived; returns the answers that are whole by now."""
        data, found, at = self._rest + data, [], 0
        while at < len(data):
            size = self._size_of(data, at)
            if size is None:  # it may yet become one
                break
            if size == 0:
                self.skipped += 1
                at += 1
                continue
            servo, _, errors = data[at + 2 : at + 5]
            found.append(Status(servo, Errors(errors), data[at + 5 : at + size - 1]))
            at += size
        self._rest = data[at:]
        return found

    def _size_of(self, data: bytes, at: int) -> int | None:
        """Bytes of the answer that begins here; 0: none does; None: too few bytes to tell."""
        head = data[at : at + 5]
        if not HEADER.startswith(head[:2]) or (len(head) > 2 and head[2] > LAST_ID):
            return 0
        if len(head) > 3 and head[3] not in (2, self._length):
            return 0
        if len(head) < 5:
            return None
        if head[4] > 0x7F or (
            head[3] != self._length and not head[4]
        ):  # only who reports an error may leave out the rest
            return 0
        if len(data) < at + head[3] + 4:
            return None
        size = head[3] + 4
        return size if checksum(data[at + 2 : at + size - 1]) == data[at + size - 1] else 0


def with_sign(value: int, sign_bit: int) -> int:
    """The number that a register shows whose `sign_bit` says minus."""
    amount = value & ((1 << sign_bit) - 1)
    return -amount if value >> sign_bit & 1 else amount


def without_sign(value: int, sign_bit: int) -> int:
    """What such a register has to hold for a number.

    Raises:
        ValueError: its amount is too large.
    """
    if abs(value) >= 1 << sign_bit:
        raise ValueError(f"expected a number of an amount below {1 << sign_bit}, found {value}")
    return abs(value) | (1 << sign_bit if value < 0 else 0)
