# SPDX-License-Identifier: Apache-2.0
"""A bench looked at step by step: port, servos, joints, cameras. What is wrong ends the steps that need it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from serl_config.files import FileError
from serl_feetech.arm import ServoArm
from serl_feetech.bus import Bus
from serl_feetech.calibration import CalibrationError, read_calibration
from serl_feetech.errors import FeetechError
from serl_feetech.port import SerialPort
from serl_robots.model.robot import load_robot

from serl_cli.doctor.finding import Finding, Level
from serl_cli.doctor.motions import Eye, MotionCheck
from serl_cli.doctor.pictures import camera_finding
from serl_cli.doctor.servos import ServoCheck, open_finding

_PATIENCE: Final = 0.25  # [s] for answers: nobody is in a hurry here, and a busy machine is no fault of the arm
_CALIBRATIONS: Final = "~/.cache/huggingface/lerobot/calibration"


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What there is at a bench."""

    port: str
    """Serial port of the arm; empty: no arm."""
    calibration: str = ""
    """File of the arm's calibration."""
    robot: str = ""
    """What the arm is; empty: it is not moved."""
    cameras: Sequence[str] = ()
    """Devices, videos or folders of pictures."""


def bench_findings(bench: Bench, eye: Eye) -> Iterator[Finding]:
    """Look at a bench.

    Args:
        bench: to look at.
        eye: of a person who watches the arm.

    Raises:
        ConfigError: there is no such robot.
    """
    if bench.port:
        yield from _arm(bench, eye)
    for camera in bench.cameras:
        yield camera_finding(camera)


def _arm(bench: Bench, eye: Eye) -> Iterator[Finding]:
    try:
        calibration = read_calibration(Path(bench.calibration))
    except (CalibrationError, FileError) as error:
        advice = f"calibrate the arm (lerobot-calibrate): what it writes lies below {_CALIBRATIONS}"
        yield Finding("calibration", Level.BAD, str(error), advice)
        return
    try:
        port = SerialPort(bench.port)
    except FeetechError as error:
        yield open_finding(error)
        return
    bus = Bus(port, {servo.id: name for name, servo in calibration.items()}, timeout=_PATIENCE)
    try:
        yield Finding("port", Level.GOOD, f"{bench.port} is open, for nobody else")
        servos = ServoCheck(bus, calibration, bench.calibration)
        yield from servos.findings()
        if not bench.robot:
            yield Finding("joints", Level.NOTE, "not moved", "--robot ROBOT moves each by some degrees: make room")
        elif len(servos.well) < len(calibration):
            yield Finding("joints", Level.NOTE, "not moved, as not all servos are well", "")
        else:
            arm = ServoArm(bus, calibration, bench.calibration)
            yield from MotionCheck(arm, bus, calibration, load_robot(bench.robot), eye).findings()
    except FeetechError as error:
        yield Finding("arm", Level.BAD, str(error), "the steps after this one were left out")
    finally:
        bus.close()
