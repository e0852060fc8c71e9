# SPDX-License-Identifier: Apache-2.0
"""An emulated SO-101 for the tests of this folder."""

from dataclasses import dataclass

import pytest
from serl_feetech.arm import SO_ARM
from serl_feetech.bus import Bus
from serl_feetech.calibration import Calibration, ServoCalibration
from serl_feetech.emulated.bus import EmulatedBus, EmulatedPort
from serl_feetech.emulated.servo import EmulatedServo


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Rig:
    """A bus of six servos in this process, in a time of its own."""

    wire: EmulatedBus
    port: EmulatedPort
    bus: Bus
    clock: Clock
    calibration: Calibration


@pytest.fixture
def rig() -> Rig:
    clock = Clock()
    wire = EmulatedBus([EmulatedServo(number) for number in range(1, 7)], clock)
    port = EmulatedPort(wire)
    calibration = {
        name: ServoCalibration(number, int(number == 3), 10 * number, 800, 3200)
        for number, name in enumerate(SO_ARM, start=1)
    }
    return Rig(wire, port, Bus(port, dict(enumerate(SO_ARM, start=1))), clock, calibration)
