# SPDX-License-Identifier: Apache-2.0
"""A Robotiq 2F gripper that is not there: packets of Modbus RTU in and out, fingers that move, and what is in between.

It is written from the manual beside the driver, and knows the driver's registers by number alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from serl_drivers.robotiq.modbus import FAILED, READ_HOLDING, READ_INPUT, WRITE, crc, packet

OPEN: Final = 3.0
"""Where the fingers are stopped as they open [count]."""
CLOSED: Final = 230.0
"""Where they meet [count]."""
SLOWEST: Final = 53.0
"""[count/s] at rSP 0: 20 mm/s of a 2F-85."""
FASTEST: Final = 400.0
"""[count/s] at rSP 255: 150 mm/s."""
ACTIVATION: Final = 1.2
"""Time of an activation [s]: to open, to close, and to open again."""
_REQUEST, _STATUS, _SIZE = 1000, 2000, 6
_PACKETS: Final = 8  # [bytes] of a request to read, and the least of any
_LONGEST_PAUSE: Final = 1.0  # [s] of motion that is made up for


class EmulatedRobotiq:
    """A gripper at the end of a wire. Not thread-safe.

    Attributes:
        position: of the fingers [count], from `OPEN` to `CLOSED`.
        object_at: where something is between the fingers [count]; None: nothing is.
        fault: that is planted (gFLT).
        silent: whether it has stopped answering.
        noise: bytes that come before the next answer; taken once.
        corrupt: how many of the next answers arrive with a wrong bit.
        asked: how often it was asked for its status.
        requests: rPR of each request to go somewhere, in order.
        activations: how often it was activated.
    """

    def __init__(self, device: int = 9, clock: Callable[[], float] = time.monotonic) -> None:
        """Switch it on: not activated, half open."""
        self._device, self._clock = device, clock
        self.position = 0.5 * (OPEN + CLOSED)
        self.object_at: float | None = None
        self.fault = 0
        self.silent = False
        self.noise, self.corrupt = b"", 0
        self.asked = 0
        self.requests: list[int] = []
        self.activations = 0
        self._request = bytes(_SIZE)
        self._activated_for: float | None = None  # time since activation was asked for [s]
        self._met = 0
        self._moved_at = clock()
        self._rest = b""

    def advance(self) -> None:
        """Let the fingers move until now."""
        now = self._clock()
        passed, self._moved_at = min(now - self._moved_at, _LONGEST_PAUSE), now
        if self._activated_for is None:
            return
        if self._activated_for < ACTIVATION:
            self._activated_for += passed
            self.position = OPEN
            return
        if not self._request[0] & 0x08:
            return
        wanted = min(max(float(self._request[3]), OPEN), CLOSED)
        step = passed * (SLOWEST + (FASTEST - SLOWEST) * self._request[4] / 255.0)
        before = self.position
        reached = before + min(max(wanted - before, -step), step)
        stop = self.object_at
        if stop is not None and wanted > before and before <= stop < wanted and reached >= stop:
            self.position, self._met = stop, 2
        else:
            self.position, self._met = reached, 3 if reached == wanted else 0

    def talk(self, data: bytes) -> bytes:
        """What comes back when these bytes, of which the last may be half a packet, are sent."""
        self.advance()
        self._rest, answer = self._rest + data, b""
        while len(self._rest) >= _PACKETS:
            rest = self._rest
            length = 9 + rest[6] if rest[1] == WRITE else _PACKETS
            if rest[0] != self._device:
                self._rest = rest[1:]
                continue
            if len(rest) < length:
                break
            if crc(rest[: length - 2]) != rest[length - 2 : length]:
                self._rest = rest[1:]
                continue
            self._rest = rest[length:]
            answer += self._obey(rest[1], rest[2 : length - 2])
        return answer

    def _obey(self, function: int, data: bytes) -> bytes:
        address, count = int.from_bytes(data[:2], "big"), int.from_bytes(data[2:4], "big")
        if function in (READ_HOLDING, READ_INPUT) and address == _STATUS and 1 <= count <= _SIZE // 2:
            self.asked += 1
            said = packet(self._device, function, bytes((2 * count,)) + self._status()[: 2 * count])
        elif function == WRITE and address == _REQUEST and count == _SIZE // 2 and data[4] == _SIZE:
            self._take(data[5:])
            said = packet(self._device, function, data[:4])
        else:
            known = function in (READ_HOLDING, READ_INPUT, WRITE)
            said = packet(self._device, function | FAILED, bytes((2 if known else 1,)))
        if self.silent:
            return b""
        if self.corrupt:
            self.corrupt -= 1
            said = said[:-3] + bytes((said[-3] ^ 0x10,)) + said[-2:]
        noise, self.noise = self.noise, b""
        return noise + said

    def _take(self, request: bytes) -> None:
        before, self._request = self._request, request
        if not request[0] & 0x01:
            self._activated_for, self._met, self.fault = None, 0, 0
        elif self._activated_for is None:
            self._activated_for = 0.0
            self.activations += 1
        elif request[0] & 0x08:
            self.requests.append(request[3])
            if request[3] != before[3]:
                self._met = 0

    def _status(self) -> bytes:
        stage = 0 if self._activated_for is None else 1 if self._activated_for < ACTIVATION else 3
        asked = bool(self._request[0] & 0x08)
        fault = self.fault or (7 if asked and stage == 0 else 5 if asked and stage == 1 else 0)
        first = (self._request[0] & 0x09) | stage << 4 | self._met << 6
        current = 20 if self._met == 0 and asked and stage == 3 else 0
        return bytes((first, 0, fault, self._request[3], round(self.position), current))
