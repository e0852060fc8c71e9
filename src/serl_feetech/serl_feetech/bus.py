# SPDX-License-Identifier: Apache-2.0
"""A bus of servos: asks and tells them by id, and says of each failure where it is and what to do."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from serl_feetech import packet, registers
from serl_feetech.errors import NoAnswer, PortError, ServoFault
from serl_feetech.packet import Errors, Instruction, Status, StatusReader
from serl_feetech.port import Port
from serl_feetech.registers import Register

_TIMEOUT: Final = 0.02  # [s] for all answers to one packet: at 1,000,000 baud ten take 1 ms, an adapter's latency 16 ms
_ATTEMPTS: Final = 3
_MOST_STALE: Final = 1 << 16  # [bytes] that nobody has asked for: more than the buffers of a port and its adapter hold
_LONGEST_STALE: Final = 0.1  # [s] that they may come, as many as they are: who waits longer moves no arm
_WORDS: Final = {
    Errors.VOLTAGE: "its supply voltage is out of range; check the power supply",
    Errors.ANGLE: "its position is out of range; turn it back by hand, or calibrate the arm again",
    Errors.HEAT: "it is too hot and has let go; let it cool down",
    Errors.CURRENT: "it takes too much current; look what blocks it",
    Errors.OVERLOAD: "it is overloaded and has let go; look what blocks it, then switch the power off and on",
}


class Bus:
    """Speaks to the servos at a port. Not thread-safe: one question at a time is on the wire.

    What is lost or garbled on the way is asked again, three times in all. What arrives before a question is thrown
    away, and after one that had to be asked again the wire is first listened to until it is quiet for `timeout`:
    answers carry no number, so a late one could be taken for that to the next question. One of the same servo and size
    that is later still cannot be told from the right one.
    """

    def __init__(self, port: Port, names: Mapping[int, str] | None = None, timeout: float = _TIMEOUT) -> None:
        """Use a port.

        Args:
            port: that is open.
            names: of servos by id, for people.
            timeout: for all answers to one packet [s].
        """
        self.port, self._names, self._timeout = port, dict(names or {}), timeout
        self.garbled = 0
        """Bytes that have arrived and belonged to no answer."""
        self._owed = False  # whether answers may still be on their way to what was asked before

    def close(self) -> None:
        """Close the port. A second call does nothing."""
        self.port.close()

    # One servo

    def ping(self, servo: int) -> None:
        """Make sure that a servo is there.

        Raises:
            NoAnswer: it is not, or two have its id.
            PortError: the port is gone.
        """
        self._ask(packet.instruction(servo, Instruction.PING), (servo,), 0)

    def read(self, servo: int, register: Register) -> int:
        """What a register holds.

        Raises:
            NoAnswer: the servo does not answer.
            ServoFault: it says that something is wrong with it.
            PortError: the port is gone.
        """
        request = packet.instruction(servo, Instruction.READ, bytes((register.address, register.size)))
        status = self._ask(request, (servo,), register.size)[servo]
        self._check(status)
        return register.decode(status.parameters)

    def write(self, servo: int, register: Register, value: int) -> None:
        """Write a register; raises as `read` does, and ValueError where the value does not fit."""
        data = bytes((register.address,)) + register.encode(value)
        self._check(self._ask(packet.instruction(servo, Instruction.WRITE, data), (servo,), 0)[servo])

    def scan(self, servos: Iterable[int] = range(packet.LAST_ID + 1)) -> dict[int, int]:
        """Model numbers of those that answer, by id; of all 254 in 5 s, as each that is not there takes its time.

        Raises:
            PortError: the port is gone.
        """
        found = {}
        for servo in servos:
            request = packet.instruction(
                servo, Instruction.READ, bytes((registers.MODEL_NUMBER.address, registers.MODEL_NUMBER.size))
            )
            status = self._exchange(request, (servo,), registers.MODEL_NUMBER.size)[0].get(servo)
            if status is not None and status.parameters:
                found[servo] = registers.MODEL_NUMBER.decode(status.parameters)
        return found

    # Several servos

    def sync_read(self, servos: Sequence[int], register: Register) -> dict[int, int]:
        """What a register of several servos holds at one moment, by id; raises as `read` does."""
        request = packet.sync_read(register.address, register.size, servos)
        answers = self._ask(request, servos, register.size)
        for status in answers.values():
            self._check(status)
        return {servo: register.decode(answers[servo].parameters) for servo in servos}

    def sync_write(self, register: Register, values: Mapping[int, int]) -> None:
        """Write a register of several servos at one moment, by id. None answers, so none is known to have heard.

        Raises:
            PortError: the port is gone.
            ValueError: a value does not fit.
        """
        data = {servo: register.encode(value) for servo, value in values.items()}
        self.port.write(packet.sync_write(register.address, register.size, data))

    # The wire

    def _ask(self, request: bytes, servos: Sequence[int], size: int) -> dict[int, Status]:
        """Answers of these servos, each with `size` parameters or an error.

        Raises:
            NoAnswer: some do not answer.
        """
        answers: dict[int, Status] = {}
        garbled = 0
        if self._owed:
            self._throw_away(self._timeout)
            self._owed = False
        for _ in range(_ATTEMPTS):
            answers, garbled = self._exchange(request, servos, size)
            if len(answers) == len(servos):
                return answers
            self._owed = True
        missing = tuple(servo for servo in servos if servo not in answers)
        raise NoAnswer(self._missing(missing, len(servos), garbled), missing)

    def _exchange(self, request: bytes, servos: Sequence[int], size: int) -> tuple[dict[int, Status], int]:
        """One question: the answers that came, and how many bytes belonged to none."""
        self._throw_away(0.0)
        self.port.write(request)
        reader, answers, wanted = StatusReader(size), dict[int, Status](), set(servos)
        end = time.monotonic() + self._timeout
        while len(answers) < len(servos) and (left := end - time.monotonic()) > 0.0:
            data = self.port.read(left)
            if not data:
                break
            answers.update((status.servo, status) for status in reader.feed(data) if status.servo in wanted)
        self.garbled += reader.skipped
        return answers, reader.skipped

    def _throw_away(self, quiet: float) -> None:
        """Throw away what nobody waits for any more, until nothing comes for a time [s].

        Raises:
            PortError: it does not end.
        """
        stale, end = 0, time.monotonic() + _LONGEST_STALE
        while data := self.port.read(quiet):
            stale += len(data)
            if stale > _MOST_STALE or time.monotonic() > end:
                raise PortError(
                    f"{self.port.name}: {stale} bytes came that nobody has asked for, and more come; is it the port of "
                    "an arm, or does another program talk on its bus?"
                )

    def _missing(self, missing: Sequence[int], asked: int, garbled: int) -> str:
        who = ", ".join(map(self._called, missing))
        port, verb = self.port.name, "do not answer" if len(missing) > 1 else "does not answer"
        if garbled:
            return (
                f"{port}: servo {who} {verb}, but {garbled} bytes came that are none; have two servos the same id, or "
                "another baud rate than 1,000,000?"
            )
        if len(missing) == asked > 1:
            return f"{port}: no servo answers, of {who}; is the arm's power supply on, and is this its port?"
        return f"{port}: servo {who} {verb}; check its cable and that of the servo before it, and its id"

    def _check(self, status: Status) -> None:
        if not status.errors:
            return
        servo, known = status.servo, [error for error in _WORDS if error in status.errors]
        what = "; ".join(_WORDS[error] for error in known) or f"it reports errors 0x{int(status.errors):02x}"
        if Errors.HEAT in known:
            what += f" (temperature {self._temperature(servo)})"
        raise ServoFault(f"{self.port.name}: servo {self._called(servo)}: {what}")

    def _temperature(self, servo: int) -> str:
        register = registers.PRESENT_TEMPERATURE
        request = packet.instruction(servo, Instruction.READ, bytes((register.address, register.size)))
        status = self._exchange(request, (servo,), register.size)[0].get(servo)
        known = status is not None and status.parameters
        return f"{register.decode(status.parameters)} degC" if status is not None and known else "unknown"

    def _called(self, servo: int) -> str:
        name = self._names.get(servo)
        return f"{servo} ({name})" if name else str(servo)
