# SPDX-License-Identifier: Apache-2.0
"""An emulated SO-101 at a pseudo-terminal, with the calibration file of a real one."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from serl_feetech.arm import SO_ARM
from serl_feetech.calibration import ServoCalibration, write_calibration
from serl_feetech.emulated.bus import EmulatedBus
from serl_feetech.emulated.pseudo_terminal import PseudoTerminal
from serl_feetech.emulated.servo import EmulatedServo

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def terminal() -> Iterator[PseudoTerminal]:
    with PseudoTerminal(EmulatedBus([EmulatedServo(number) for number in range(1, 7)])) as served:
        yield served


@pytest.fixture
def calibration(tmp_path: Path) -> Path:
    path = tmp_path / "arm.json"
    servos = {name: ServoCalibration(number, 0, 0, 847, 3247) for number, name in enumerate(SO_ARM, start=1)}
    write_calibration(path, servos)
    return path
