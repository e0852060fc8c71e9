# SPDX-License-Identifier: Apache-2.0
"""Calibration of an arm of servos, in the file that LeRobot writes: what its users have need not be done again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

from serl_config.atomic_files import write_whole
from serl_config.files import read_text
from serl_config.strict_json import JsonError, parse_json

from serl_feetech.packet import LAST_ID
from serl_feetech.registers import TURN

_LIMIT: Final = 64 * 1024  # [bytes]
_MOST_SERVOS: Final = 64
_LONGEST_NAME: Final = 64  # characters
_BOUNDS: Final = {
    "id": (0, LAST_ID),
    "drive_mode": (0, 1),
    "homing_offset": (-(TURN // 2) + 1, TURN // 2 - 1),
    "range_min": (-TURN, 2 * TURN),
    "range_max": (-TURN, 2 * TURN),
}


class CalibrationError(ValueError):
    """A calibration that cannot be meant so. The message is one line and names the file."""


@dataclass(frozen=True, slots=True)
class ServoCalibration:
    """Where the zero and the ends of one servo's motion are [steps of the encoder, 4096 a turn]."""

    id: int
    """Number of the servo on the bus."""
    drive_mode: int
    """1: it turns the other way around."""
    homing_offset: int
    """What the servo takes off its encoder's steps; so the middle of the motion becomes 2047."""
    range_min: int
    """Smallest position."""
    range_max: int
    """Largest position."""


Calibration = dict[str, ServoCalibration]
"""Calibrations of servos by their names, in the order of the file."""


def read_calibration(path: Path) -> Calibration:
    """Read a file of LeRobot, `<name of the arm>.json`.

    Raises:
        FileError: it cannot be read.
        CalibrationError: it is no calibration; says which servo and which value.
    """
    try:
        content = parse_json(read_text(path, _LIMIT), size=_LIMIT)
    except JsonError as error:
        raise CalibrationError(f"{path}: {error}; expected a calibration of LeRobot") from error
    if not isinstance(content, dict) or not 1 <= len(content) <= _MOST_SERVOS:
        raise CalibrationError(f"{path}: expected an object with an entry for each servo, as LeRobot writes it")
    calibration = {name: _servo(path, name, entry) for name, entry in content.items()}
    check_calibration(calibration, str(path))
    return calibration


def write_calibration(path: Path, calibration: Mapping[str, ServoCalibration]) -> None:
    """Write a file that LeRobot reads, whole or not at all.

    Raises:
        CalibrationError: two servos have one id.
        OSError: it cannot be written.
    """
    check_calibration(calibration, str(path))
    text = json.dumps({name: asdict(servo) for name, servo in calibration.items()}, indent=4)
    write_whole(path, f"{text}\n".encode())


def check_calibration(calibration: Mapping[str, ServoCalibration], source: str) -> None:
    """Refuse two servos of one id, an empty range and names that nobody can read; `source` is for people.

    Raises:
        CalibrationError: says which.
    """
    names: dict[int, str] = {}
    for name, servo in calibration.items():
        if not name.isprintable() or not 0 < len(name) <= _LONGEST_NAME:
            raise CalibrationError(
                f"{source}: {name[:40]!r}: expected a name of 1 to {_LONGEST_NAME} characters that can be printed"
            )
        if servo.id in names:
            raise CalibrationError(
                f"{source}: {names[servo.id]} and {name} have the same id {servo.id}; each needs one"
            )
        names[servo.id] = name
        if servo.range_min >= servo.range_max:
            raise CalibrationError(
                f"{source}: {name}: expected range_min below range_max, found {servo.range_min} and {servo.range_max}; "
                "calibrate the arm again, and move each joint from end to end"
            )


def _servo(path: Path, name: str, entry: Any) -> ServoCalibration:
    keys = [field.name for field in fields(ServoCalibration)]
    if not isinstance(entry, dict) or set(entry) != set(keys):
        found = ", ".join(map(repr, entry)) if isinstance(entry, dict) else repr(entry)
        raise CalibrationError(f"{path}: {name[:40]!r}: expected {', '.join(keys)}, found {found[:100]}")
    for key, (low, high) in _BOUNDS.items():
        value = entry[key]
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise CalibrationError(
                f"{path}: {name[:40]!r}: {key}: expected an integer from {low} to {high}, found {value!r:.40}"
            )
    return ServoCalibration(**entry)
