# SPDX-License-Identifier: Apache-2.0
"""The part of Modbus RTU that a gripper needs: input registers are read and holding registers written."""

from __future__ import annotations

import time
from typing import Final

from serl_feetech.errors import PortError
from serl_feetech.port import Port

READ_HOLDING: Final = 3
READ_INPUT: Final = 4
WRITE: Final = 16
FAILED: Final = 0x80
"""Added to a function by who does not obey it."""
EXCEPTIONS: Final = {
    1: "it does not know this function",
    2: "it has no such register",
    3: "it takes no such value",
    4: "it has failed",
    6: "it is busy",
}
"""What is wrong with a request, by the code in the answer."""

_ATTEMPTS: Final = 3
_SILENCE: Final = 0.002  # [s] between packets: 1.75 ms at 19,200 baud and more
_MOST_STALE: Final = 1 << 16  # [bytes] that nobody has asked for
_LONGEST_STALE: Final = 0.1  # [s] that they may come, as many as they are


class ModbusError(Exception):
    """A device that does not answer, or refuses. The message is one line, with port, device and what to do."""


def crc(data: bytes) -> bytes:
    """The two bytes that end a packet: the CRC-16 of Modbus (polynomial 0xA001, from 0xFFFF), low byte first."""
    value = 0xFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0xA001 if value & 1 else 0)
    return value.to_bytes(2, "little")


def packet(device: int, function: int, data: bytes) -> bytes:
    """A packet to or from `device`."""
    body = bytes((device, function)) + data
    return body + crc(body)


def read_request(device: int, address: int, count: int) -> bytes:
    """Asks for `count` input registers from `address` on."""
    return packet(device, READ_INPUT, address.to_bytes(2, "big") + count.to_bytes(2, "big"))


def write_request(device: int, address: int, data: bytes) -> bytes:
    """Writes the holding registers from `address` on, two bytes each."""
    head = address.to_bytes(2, "big") + (len(data) // 2).to_bytes(2, "big") + bytes((len(data),))
    return packet(device, WRITE, head + data)


class AnswerReader:
    """Finds the answer to one request among bytes, of which some may be garbage or answers to something else.

    Attributes:
        skipped: bytes that belonged to no answer.
    """

    def __init__(self, device: int, function: int, head: bytes, size: int) -> None:
        """Wait for an answer.

        Args:
            device: of whom.
            function: to which.
            head: its first bytes after the function.
            size: of what follows these, without the CRC [bytes].
        """
        self._device, self._function, self._head, self._size = device, function, head, size
        self._rest, self.skipped = b"", 0

    def feed(self, data: bytes) -> tuple[int, bytes] | None:
        """Function and data of the answer, the latter without its head; None while it is not complete."""
        self._rest += data
        while self._rest:
            whole = self._complete()
            if whole is not None:
                return whole
            if self._may_become_one():
                return None
            self._rest, self.skipped = self._rest[1:], self.skipped + 1
        return None

    def _complete(self) -> tuple[int, bytes] | None:
        rest, good = self._rest, 2 + len(self._head) + self._size + 2
        for begin, length in ((self._begin(), good), (bytes((self._device, self._function | FAILED)), 5)):
            body, check = rest[: length - 2], rest[length - 2 : length]
            if len(rest) >= length and rest.startswith(begin) and crc(body) == check:
                return body[1], body[len(begin) :]
        return None

    def _may_become_one(self) -> bool:
        rest, good = self._rest, 2 + len(self._head) + self._size + 2
        begin, refusal = self._begin(), bytes((self._device, self._function | FAILED))
        return (len(rest) < good and rest[: len(begin)] == begin[: len(rest)]) or (
            len(rest) < 5 and rest[:2] == refusal[: len(rest)]
        )

    def _begin(self) -> bytes:
        return bytes((self._device, self._function)) + self._head


class ModbusClient:
    """Asks one device at a port. Not thread-safe.

    What is lost or garbled is asked again, three times in all. Answers carry no number: after one that was missing the
    wire is listened to until it is quiet, so that a late one is not taken for the next.
    """

    def __init__(self, port: Port, device: int, name: str, timeout: float) -> None:
        """Use a port.

        Args:
            port: that is open.
            device: number of whom is asked.
            name: of it, for people.
            timeout: for one answer [s].
        """
        self.port, self._device, self._name, self._timeout = port, device, name, timeout
        self.garbled = 0
        """Bytes that have arrived and belonged to no answer."""
        self._owed = False
        self._quiet_at = 0.0

    def read(self, address: int, count: int) -> bytes:
        """What input registers hold, two bytes each.

        Raises:
            ModbusError: no answer, or a refusal.
            PortError: the port is gone.
        """
        request = read_request(self._device, address, count)
        return self._ask(request, READ_INPUT, bytes((2 * count,)), 2 * count)

    def write(self, address: int, data: bytes) -> None:
        """Write holding registers, two bytes each; raises as `read` does."""
        request = write_request(self._device, address, data)
        self._ask(request, WRITE, request[2:6], 0)

    def _ask(self, request: bytes, function: int, head: bytes, size: int) -> bytes:
        garbled = 0
        for _ in range(_ATTEMPTS):
            self._throw_away(self._timeout if self._owed else 0.0)
            self._owed = True
            time.sleep(max(0.0, self._quiet_at - time.monotonic()))
            self.port.write(request)
            reader, end = AnswerReader(self._device, function, head, size), time.monotonic() + self._timeout
            while (left := end - time.monotonic()) > 0.0 and (data := self.port.read(left)):
                answer = reader.feed(data)
                self._quiet_at = time.monotonic() + _SILENCE
                if answer is None:
                    continue
                self._owed = False
                self.garbled += reader.skipped
                if answer[0] & FAILED:
                    code = answer[1][0]
                    raise ModbusError(f"{self._where()} refuses a request: {EXCEPTIONS.get(code, f'code {code}')}")
                return answer[1]
            garbled += reader.skipped
        self.garbled += garbled
        if garbled:
            raise ModbusError(
                f"{self._where()} does not answer, but {garbled} bytes came that are no answer; has it another baud "
                "rate, or does somebody else talk on this wire?"
            )
        raise ModbusError(f"{self._where()} does not answer; look at its 24 V, its cable, and its number")

    def _throw_away(self, quiet: float) -> None:
        stale, end = 0, time.monotonic() + _LONGEST_STALE
        while data := self.port.read(quiet):
            stale += len(data)
            if stale > _MOST_STALE or time.monotonic() > end:
                raise PortError(f"{self.port.name}: bytes come that nobody has asked for; is it the gripper's port?")

    def _where(self) -> str:
        return f"{self.port.name}: {self._name} (device {self._device})"
