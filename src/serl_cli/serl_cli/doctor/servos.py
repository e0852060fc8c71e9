# SPDX-License-Identifier: Apache-2.0
"""What is wrong with the servos on a bus: who answers how soon, what is in their registers, how hot they are.

Nothing is moved here. The torque is switched off at the end, as an emergency stop of the driver does it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np
from serl_feetech.bus import Bus
from serl_feetech.calibration import Calibration, ServoCalibration
from serl_feetech.errors import FeetechError, NoAnswer, ServoFault
from serl_feetech.registers import TURN, Register

from serl_cli.doctor.finding import Finding, Level
from serl_feetech import registers

_LOOKED_AT: Final = 30  # ids from 0 on that a servo may have by mistake
_TRIES: Final = 3
_ASKED: Final = 200  # times, for the round trip
_SLOW: Final = 0.004  # [s] median round trip of all servos, from which something is to be improved
_TOO_SLOW: Final = 0.015  # [s], from which no driver keeps 50 Hz
_WARM: Final = 55  # [degC]
_VOLTAGES: Final = ((6.0, 8.5), (10.5, 13.0))  # [V] of supplies of 7.4 V and 12 V
_BESIDE: Final = 60  # [steps] that a joint may stand outside of its range
_LET_GO: Final = 0.1  # [s] that switching the torque off may take
_CALIBRATE: Final = "calibrate the arm (lerobot-calibrate) and give the file that it writes"


class ServoCheck:
    """Looks at the servos of one arm.

    Attributes:
        well: names of those that answer, without a fault and with their calibration in them; known at the end.
    """

    def __init__(self, bus: Bus, calibration: Calibration, source: str) -> None:
        """Look at a bus.

        Args:
            bus: of the arm.
            calibration: of its servos.
            source: file of the calibration.
        """
        self._bus, self._calibration, self._source = bus, calibration, source
        self.well = list(calibration)

    def findings(self) -> Iterator[Finding]:
        """Look at one thing after the other.

        Raises:
            PortError: the port is gone.
        """
        yield self._ids()
        if not self.well:
            return
        yield self._faults()
        if not self.well:
            return
        yield self._firmware()
        yield self._voltage()
        yield self._temperatures()
        yield self._calibrations()
        if self.well:
            yield self._round_trip()
        yield self._torque_off()

    def _ids(self) -> Finding:
        names = {servo.id: name for name, servo in self._calibration.items()}
        found = self._bus.scan(sorted({*range(_LOOKED_AT), *names}))
        for number in set(names) - set(found):  # asked once only, and an answer may be late
            found |= self._bus.scan([number] * _TRIES)
        doubled = self._doubled(found)
        missing, strange = sorted(set(names) - set(found)), sorted(set(found) - set(names))
        self.well = [names[number] for number in sorted(set(names) & set(found))]
        if missing:
            gone = ", ".join(f"{number} ({names[number]})" for number in missing)
            text = f"expected {len(names)} servos, found {len(names) - len(missing)}: {gone} missing"
            if strange:
                others = ", ".join(map(str, strange))
                advice = (
                    f"a servo with a wrong id: give it the missing one, alone on the bus (lerobot-setup-motors); "
                    f"{others} is in no calibration"
                )
                return Finding("servos", Level.BAD, f"{text}, and {others} answers", advice)
            if doubled:
                advice = "two servos have the same id: give each its own, alone on the bus (lerobot-setup-motors)"
                return Finding("servos", Level.BAD, f"{text}, and what {doubled} answers is garbled", advice)
            if not self.well:
                return Finding("servos", Level.BAD, text, "switch the arm's power supply on; is this the arm's port?")
            return Finding("servos", Level.BAD, text, "check its cable, and that of the servo before it")
        wrong = {names[number]: model for number, model in found.items() if number in names}
        other = [f"{name} is a model {model}" for name, model in wrong.items() if model != registers.MODEL]
        if other:
            self.well = []
            return Finding("servos", Level.BAD, ", ".join(other), f"expected STS3215, model {registers.MODEL}")
        if strange:
            text = f"{len(found)} answer; {', '.join(map(str, strange))} is in no calibration"
            return Finding("servos", Level.NOTE, text, "is it the port of this arm?")
        return Finding("servos", Level.GOOD, f"{len(found)} of {len(names)} answer")

    def _doubled(self, found: Iterable[int]) -> str:
        """Ids that several servos answer to: what they say alike is heard, and of where they stand nothing is."""
        doubled = []
        for number in found:
            try:
                self._bus.read(number, registers.PRESENT_POSITION)
            except NoAnswer:
                doubled.append(str(number))
            except ServoFault:  # it is alone, and has something else to say
                continue
        return ", ".join(doubled)

    def _faults(self) -> Finding:
        faults = []
        for name in list(self.well):
            try:
                self._bus.read(self._calibration[name].id, registers.PRESENT_TEMPERATURE)
            except (ServoFault, NoAnswer) as error:
                faults.append(str(error).partition(": ")[2])
                self.well.remove(name)
        if faults:
            return Finding("faults", Level.BAD, "; ".join(faults), "nothing else is known of a servo with a fault")
        return Finding("faults", Level.GOOD, "no servo reports one")

    def _firmware(self) -> Finding:
        major, minor = self._values(registers.FIRMWARE_MAJOR), self._values(registers.FIRMWARE_MINOR)
        versions = {name: f"{major[name]}.{minor[name]}" for name in self.well}
        if len(set(versions.values())) > 1:
            text = ", ".join(f"{name} {version}" for name, version in versions.items())
            return Finding("firmware", Level.NOTE, text, "bring all to one version with Feetech's own program")
        return Finding("firmware", Level.GOOD, f"{versions[self.well[0]]} in all")

    def _voltage(self) -> Finding:
        volts = {name: 0.1 * value for name, value in self._values(registers.PRESENT_VOLTAGE).items()}
        low, high = min(volts.values()), max(volts.values())
        text = f"{low:.1f} to {high:.1f} V"
        if any(least <= low and high <= most for least, most in _VOLTAGES):
            return Finding("supply", Level.GOOD, text)
        return Finding("supply", Level.BAD, text, "expected a supply of 7.4 or 12 V, as the servos are made for")

    def _temperatures(self) -> Finding:
        degrees = self._values(registers.PRESENT_TEMPERATURE)
        hottest = max(degrees, key=lambda name: degrees[name])
        text = f"at most {degrees[hottest]} degC ({hottest})"
        if degrees[hottest] >= _WARM:
            return Finding("temperature", Level.NOTE, text, "let it cool down; what does it press against?")
        return Finding("temperature", Level.GOOD, text)

    def _calibrations(self) -> Finding:
        differing, outside = [], []
        offsets, places = self._values(registers.HOMING_OFFSET), self._values(registers.PRESENT_POSITION)
        ends = self._values(registers.MIN_POSITION), self._values(registers.MAX_POSITION)
        for name in list(self.well):
            servo = self._calibration[name]
            found = (offsets[name], ends[0][name], ends[1][name])
            if found != _kept(servo):
                differing.append(f"{name} has {_words(found)}, expected {_words(_kept(servo))}")
                self.well.remove(name)
            elif not servo.range_min - _BESIDE <= places[name] <= servo.range_max + _BESIDE:
                outside.append(f"{name} stands at {places[name]}, expected {servo.range_min} to {servo.range_max}")
                self.well.remove(name)
        if differing:
            text = f"not as {self._source} says: {'; '.join(differing)}"
            return Finding("calibration", Level.BAD, text, _CALIBRATE)
        if outside:
            return Finding("calibration", Level.BAD, f"outside of its range: {'; '.join(outside)}", _CALIBRATE)
        return Finding("calibration", Level.GOOD, f"that of {self._source} is in all servos")

    def _round_trip(self) -> Finding:
        ids = [self._calibration[name].id for name in self.well]
        seconds = []
        for _ in range(_ASKED):
            start = time.perf_counter()
            self._bus.sync_read(ids, registers.PRESENT_POSITION)
            seconds.append(time.perf_counter() - start)
        median, late = np.percentile(seconds, [50, 99])
        text = f"{1e3 * median:.1f} ms for all positions, {1e3 * late:.1f} ms at the 99th percentile of {_ASKED}"
        level = Level.GOOD if median < _SLOW else Level.NOTE if median < _TOO_SLOW else Level.BAD
        advice = "set the adapter's latency_timer to 1 ms (/sys/bus/usb-serial/devices/ttyUSB0/latency_timer)"
        return Finding("round trip", level, text, "" if level is Level.GOOD else advice)

    def _torque_off(self) -> Finding:
        durations = []
        for _ in range(_TRIES):  # one that comes late tells of a busy machine, not of the arm
            start = time.perf_counter()
            for name in self.well:
                self._bus.write(self._calibration[name].id, registers.TORQUE_ENABLE, 0)
            durations.append(time.perf_counter() - start)
        seconds = float(np.median(durations))
        still = [name for name, value in self._values(registers.TORQUE_ENABLE).items() if value]
        if still or seconds > _LET_GO:
            text = f"took {1e3 * seconds:.0f} ms" + (f", and {', '.join(still)} did not obey" if still else "")
            return Finding("torque off", Level.BAD, text, "do not switch the arm on: it may not stop")
        return Finding("torque off", Level.GOOD, f"all servos let go, {1e3 * seconds:.0f} ms")

    def _values(self, register: Register) -> dict[str, int]:
        """What a register of each good servo holds."""
        return {name: self._bus.read(self._calibration[name].id, register) for name in self.well}


def open_finding(error: FeetechError) -> Finding:
    """What is said of a port that cannot be opened."""
    text, _, advice = str(error).partition("; ")
    return Finding("port", Level.BAD, text, advice)


def _kept(servo: ServoCalibration) -> tuple[int, int, int]:
    """What a calibrated servo has in it: offset, smallest and largest position."""
    return servo.homing_offset, max(servo.range_min, 0), min(servo.range_max, TURN - 1)


def _words(kept: tuple[int, int, int]) -> str:
    return f"offset {kept[0]}, {kept[1]} to {kept[2]}"
